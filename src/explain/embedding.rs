//! The features of clips in two dimensions.

use super::error::ExplainError;
use super::pca::Pca;
use super::tsne::Tsne;
use crate::data::{Batches, Dataset, Split};
use crate::train::{FeatureLayer, Predictor, TrainError};
use std::sync::Arc;

/// Most clips in a picture: more points hide each other, and t-SNE takes time with the square of their number.
pub const MOST_CLIPS: usize = 2000;
/// Most numbers of all clips together, which bounds the memory of a layer with many rows.
const MOST_NUMBERS: usize = 1 << 25;
/// Clips that are taken whatever the size of the layer.
const LEAST_CLIPS: usize = 50;

/// The features of clips in two dimensions, by principal components and by t-SNE.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The layer whose outputs are the features.
    pub layer: FeatureLayer,
    /// The numbers of the clips in the data set.
    pub clips: Vec<u32>,
    /// The class that the network recognises in each.
    pub predicted: Vec<usize>,
    /// How many clips the split has.
    pub total: usize,
    /// One of so many clips of the split is taken.
    pub every: usize,
    /// The first two principal components.
    pub pca: Pca,
    /// t-SNE; none for too few clips.
    pub tsne: Option<Tsne>,
}

impl Embedding {
    /// The clips of a split, or all, by their outputs of a layer; of more than [`MOST_CLIPS`], every second, third, .. . The predictor was built to keep the layer.
    ///
    /// # Errors
    /// There are no such clips, the predictor does not keep the layer, an output is not finite, the GPU fails, or no thread can be started.
    pub fn new(
        predictor: &mut Predictor,
        layer: &FeatureLayer,
        data: &Arc<Dataset>,
        split: Option<Split>,
    ) -> Result<Embedding, ExplainError> {
        let size = layer.shape.size();
        let total = data.clips().iter().filter(|clip| split.is_none_or(|split| clip.split == split)).count();
        let every = total.div_ceil(most_clips(size)).max(1);
        let (mut clips, mut predicted, mut features) = (Vec::new(), Vec::new(), Vec::new());
        let mut batches = Batches::eval(data.clone(), split, predictor.batch()).map_err(TrainError::from)?;
        let mut number = 0;
        while let Some(batch) = batches.next_batch() {
            predictor.run(&batch.inputs)?;
            let values = predictor.activation(layer.node)?;
            let values = values.ok_or_else(|| TrainError::NotKept { layer: layer.name.clone() })?;
            for (sample, (&clip, values)) in batch.clips.iter().zip(values.chunks_exact(size)).enumerate() {
                if number % every == 0 {
                    clips.push(clip);
                    predicted.push(predictor.prediction(sample).class);
                    features.extend_from_slice(values);
                }
                number += 1;
            }
        }
        let pca = Pca::new(&features, size, 2)?;
        let tsne = Tsne::new(&features, size, &pca)?;
        Ok(Embedding { layer: layer.clone(), clips, predicted, total, every, pca, tsne })
    }
}

/// How many clips with so many numbers are taken.
fn most_clips(size: usize) -> usize {
    (MOST_NUMBERS / size.max(1)).clamp(LEAST_CLIPS, MOST_CLIPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_bounded_and_some_clips_are_always_taken() {
        assert_eq!([1, 4096, 1 << 18, usize::MAX].map(most_clips), [2000, 2000, 128, 50]);
    }
}
