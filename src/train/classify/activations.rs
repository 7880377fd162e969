//! The activations of layers for all clips of a data set, with the network's own predictions.

use super::Score;
use crate::data::{Batches, Dataset, Split};
use crate::train::error::TrainError;
use crate::train::eval::Evaluation;
use crate::train::features::FeatureLayer;
use crate::train::predictor::Predictor;
use crate::train::shifts::Shifts;
use std::sync::Arc;

/// Most numbers of a layer for each clip: the covariance matrix of more, and its decomposition, would take many minutes.
pub const MOST_FEATURES: usize = 2048;

/// What the network predicts.
pub struct NetworkResults {
    /// For the validation clips.
    pub validation: Evaluation,
    /// For the test clips.
    pub test: Evaluation,
}

impl NetworkResults {
    /// The result on the test clips.
    pub fn test_score(&self) -> Score {
        Score::of(self.test.correct, self.test.clips)
    }
}

/// The activations of layers for all clips, and the network's predictions.
pub struct Activations {
    data: Arc<Dataset>,
    /// Each with its activations, `[clips, rows * channels]`.
    layers: Vec<(FeatureLayer, Vec<f32>)>,
    network: NetworkResults,
}

impl Activations {
    /// Computes the activations of `layers` for all clips of `data` and the predictions of the network, in one pass over the clips. The predictor was built to keep the layers.
    ///
    /// # Errors
    /// A layer has more than [`MOST_FEATURES`] numbers for each clip, there are no clips, the predictor does not keep a layer, or the GPU fails.
    pub fn compute(
        predictor: &mut Predictor,
        layers: Vec<FeatureLayer>,
        data: Arc<Dataset>,
    ) -> Result<Activations, TrainError> {
        if let Some(layer) = layers.iter().find(|layer| layer.shape.size() > MOST_FEATURES) {
            return Err(TrainError::TooManyFeatures {
                layer: layer.name.clone(),
                features: layer.shape.size(),
                most: MOST_FEATURES,
            });
        }
        let clips = data.clips().len();
        let mut layers: Vec<(FeatureLayer, Vec<f32>)> = layers
            .into_iter()
            .map(|layer| (layer.shape.size() * clips, layer))
            .map(|(n, layer)| (layer, vec![0.0; n]))
            .collect();
        let empty = |split| Evaluation::new(Some(split), Shifts::NONE, data.classes());
        let mut network = NetworkResults { validation: empty(Split::Validation), test: empty(Split::Testing) };
        let mut batches = Batches::eval(data.clone(), None, predictor.batch())?;
        while let Some(batch) = batches.next_batch() {
            predictor.run(&batch.inputs)?;
            for (layer, values) in &mut layers {
                let size = layer.shape.size();
                let kept = predictor.activation(layer.node)?;
                let kept = kept.ok_or_else(|| TrainError::NotKept { layer: layer.name.clone() })?;
                for (&clip, row) in batch.clips.iter().zip(kept.chunks_exact(size)) {
                    values[clip as usize * size..][..size].copy_from_slice(row);
                }
            }
            for (sample, &clip) in batch.clips.iter().enumerate() {
                let evaluation = match data.clips()[clip as usize].split {
                    Split::Training => continue,
                    Split::Validation => &mut network.validation,
                    Split::Testing => &mut network.test,
                };
                evaluation.add(batch.labels[sample] as usize, clip, predictor.prediction(sample));
            }
        }
        network.validation.finish();
        network.test.finish();
        Ok(Activations { data, layers, network })
    }

    /// The clips.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// The predictions of the network.
    pub fn network(&self) -> &NetworkResults {
        &self.network
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// A layer by its number, with its activations `[clips, rows * channels]`.
    ///
    /// # Panics
    /// There is no layer with this number.
    pub fn layer(&self, number: usize) -> (&FeatureLayer, &[f32]) {
        let (layer, values) = &self.layers[number];
        (layer, values)
    }
}
