//! The clips that excite the channels of a layer most.

use super::error::ExplainError;
use crate::data::{Batches, Dataset, Split};
use crate::nn::Network;
use crate::train::{FeatureLayer, Predictor, TrainError};
use std::ops::Range;
use std::sync::Arc;

/// The highest activation of a channel in a clip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excitation {
    /// The number of the clip in the data set.
    pub clip: u32,
    /// The row of the layer.
    pub row: usize,
    /// The activation.
    pub value: f32,
    /// The first sample that the row depends on.
    pub first: usize,
    /// One after the last of these samples.
    pub end: usize,
}

impl Excitation {
    /// The samples of the clip that the row depends on.
    pub fn samples(&self) -> Range<usize> {
        self.first..self.end
    }
}

/// The clips that excite the channels of a layer most.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerExcitations {
    /// The layer.
    pub layer: FeatureLayer,
    /// For each channel its highest activations from the highest on, each in another clip.
    pub channels: Vec<Vec<Excitation>>,
}

impl LayerExcitations {
    /// Takes the activations of a clip into account, `[l, c]`.
    fn add(&mut self, clip: u32, values: &[f32], count: usize) {
        let mut most = vec![(0, f32::NEG_INFINITY); self.channels.len()];
        for (row, values) in values.chunks_exact(self.channels.len().max(1)).enumerate() {
            for (most, &value) in most.iter_mut().zip(values) {
                if value > most.1 {
                    *most = (row, value);
                }
            }
        }
        for (best, (row, value)) in self.channels.iter_mut().zip(most) {
            // Equal ones stay in the order of the clips; a channel without a finite number has none.
            let at = best.partition_point(|other| other.value >= value);
            if at < count && value.is_finite() {
                best.insert(at, Excitation { clip, row, value, first: 0, end: 0 });
                best.truncate(count);
            }
        }
    }
}

/// The `count` clips of a split, or of all clips, that excite each channel of each of `layers` most, in one pass over the clips; the memory does not depend on their number. The predictor was
/// built to keep the layers.
///
/// # Errors
/// There are no such clips, the predictor does not keep a layer, or the GPU fails.
pub fn strongest(
    network: &Network,
    predictor: &mut Predictor,
    layers: &[FeatureLayer],
    data: &Arc<Dataset>,
    split: Option<Split>,
    count: usize,
) -> Result<Vec<LayerExcitations>, ExplainError> {
    let empty =
        |layer: &FeatureLayer| LayerExcitations { layer: layer.clone(), channels: vec![Vec::new(); layer.shape.c] };
    let mut all: Vec<LayerExcitations> = layers.iter().map(empty).collect();
    let mut batches = Batches::eval(data.clone(), split, predictor.batch()).map_err(TrainError::from)?;
    while let Some(batch) = batches.next_batch() {
        predictor.run(&batch.inputs)?;
        for of_layer in &mut all {
            let layer = &of_layer.layer;
            let values = predictor.activation(layer.node)?;
            let values = values.ok_or_else(|| TrainError::NotKept { layer: layer.name.clone() })?;
            let size = layer.shape.size();
            for (&clip, values) in batch.clips.iter().zip(values.chunks_exact(size)) {
                of_layer.add(clip, values, count);
            }
        }
    }
    for LayerExcitations { layer, channels } in &mut all {
        for of in channels.iter_mut().flatten() {
            let field = network.receptive_field(layer.node, of.row);
            (of.first, of.end) = (field.start, field.end);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::ascent::tests::network;
    use super::*;
    use crate::base::Shape;

    /// Clips of 32 samples with one click each, as a data set.
    fn clicks(at: &[usize], folder: &std::path::Path) -> Arc<Dataset> {
        use crate::data::{DataConfig, Source};
        let format = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        for (number, &at) in at.iter().enumerate() {
            let word = folder.join(["first", "second"][number % 2]);
            std::fs::create_dir_all(&word).unwrap();
            let mut wav = hound::WavWriter::create(word.join(format!("{number}.wav")), format).unwrap();
            (0..32).for_each(|i| wav.write_sample(if i == at { 1000 * (1 + number as i16) } else { 0i16 }).unwrap());
            wav.finalize().unwrap();
        }
        let config = DataConfig { length: 32, allow_other_words: true, ..DataConfig::default() };
        let source = Source::open(folder).unwrap();
        Arc::new(Dataset::open(&source, &config, &|_, _, _| std::ops::ControlFlow::Continue(())).unwrap())
    }

    #[test]
    fn the_strongest_segments_hold_the_click_whatever_the_batch() {
        let folder = tempfile::tempdir().unwrap();
        let data = clicks(&[9, 20, 14], folder.path());
        let names: Vec<String> = data.clips().iter().map(|clip| clip.name.to_string()).collect();
        assert_eq!(names, ["first/0.wav", "first/2.wav", "second/1.wav"]);
        let (network, weights) = network();
        let layer = FeatureLayer::find(&network, "pool1").unwrap();
        for batch in [1, 2, 8] {
            let predictor = Predictor::builder(&network, weights.clone()).batch(batch).keep([layer.node]);
            let mut predictor = predictor.build().unwrap();
            let found = strongest(&network, &mut predictor, std::slice::from_ref(&layer), &data, None, 2).unwrap();
            // The first channel is active where the last of its four taps is on the click, the second where the first is: rows
            // 11 and 14 of the convolution, which are in the pools 2 and 3; a pool depends on seven samples.
            let of = |channel: usize| found[0].channels[channel].iter().map(|e| (e.clip, e.row, e.samples()));
            assert_eq!(of(0).collect::<Vec<_>>(), [(1, 2, 8..15), (2, 4, 16..23)]);
            assert_eq!(of(1).collect::<Vec<_>>(), [(1, 3, 12..19), (2, 5, 20..27)]);
            approx::assert_relative_eq!(found[0].channels[0][0].value, 3000.0 / 32768.0, max_relative = 1e-6);
        }
        let mut without = Predictor::builder(&network, weights).batch(2).build().unwrap();
        let missing = strongest(&network, &mut without, &[layer], &data, None, 2);
        assert!(matches!(missing, Err(ExplainError::Train(TrainError::NotKept { .. }))));
    }

    #[test]
    fn the_best_rows_of_each_clip_are_kept_in_order() {
        let layer = FeatureLayer { name: "l".into(), node: network().0.blocks[0], shape: Shape::new(3, 2) };
        let mut of = LayerExcitations { layer, channels: vec![Vec::new(); 2] };
        of.add(4, &[0.0, 1.0, 2.0, f32::NAN, 1.0, 5.0], 2);
        of.add(5, &[3.0, f32::NAN, 0.0, f32::NAN, 0.0, f32::NAN], 2);
        of.add(6, &[0.0, 5.0, 2.0, 0.0, 0.0, 0.0], 2);
        let found = |channel: usize| of.channels[channel].iter().map(|e| (e.clip, e.row, e.value)).collect::<Vec<_>>();
        assert_eq!(found(0), [(5, 0, 3.0), (4, 1, 2.0)]);
        assert_eq!(found(1), [(4, 2, 5.0), (6, 0, 5.0)]);
    }
}
