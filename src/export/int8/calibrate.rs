//! The ranges of a network's activations, from clips that it was trained on.

use crate::export::error::ExportError;
use crate::export::stages::{Kernel, Stages};
use crate::graph::NodeId;
use crate::train::{Model, Predictor, Weights};

/// Activations of a stage that are kept of each clip, to compare ranges.
const KEPT_OF_CLIP: usize = 1024;
/// Distance of the kept activations: a prime, so that they are spread over rows and channels.
const STEP: usize = 7_919;

/// The values that the numbers of an activation cover; others become the nearest of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The smallest, at most 0.
    pub low: f32,
    /// The largest, at least 0.
    pub high: f32,
}

impl Range {
    /// The scale and the zero of numbers from 0 to `most` that cover it.
    pub fn scale_and_zero(self, most: i32) -> (f64, i32) {
        let (low, high, most) = (f64::from(self.low), f64::from(self.high), f64::from(most));
        let scale = ((high - low) / most).max(f64::from(f32::MIN_POSITIVE));
        (scale, (-low / scale).round().clamp(0.0, most) as i32)
    }

    /// The mean squared difference between values and the numbers that stand for them.
    fn error(self, values: &[f32]) -> f64 {
        let (scale, zero) = self.scale_and_zero(255);
        let error = |&x: &f32| {
            let number = (f64::from(x) / scale).round().clamp(f64::from(-zero), f64::from(255 - zero));
            (number * scale - f64::from(x)).powi(2)
        };
        values.iter().map(error).sum::<f64>() / values.len().max(1) as f64
    }

    /// Of this range and of parts of it, the one with the smallest error for these values.
    fn narrowed(self, values: &[f32]) -> Range {
        let part = |percent: u16| {
            let part = f32::from(percent) / 100.0;
            Range { low: self.low * part, high: self.high * part }
        };
        let candidates = (20..=100).rev().step_by(2).map(part);
        let measured = candidates.map(|range| (range, range.error(values)));
        measured.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(self, |(range, _)| range)
    }
}

/// The ranges of a network.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// The largest magnitude of the input, after standardisation.
    pub input_peak: f32,
    /// The range of the output of each stage; of the last, whose output are the logits, without use.
    pub outputs: Vec<Range>,
    /// All values of the output of each stage.
    pub extents: Vec<Range>,
    /// Clips that they are from.
    pub clips: usize,
}

/// Measures the activations of a network for clips.
pub struct Calibrator {
    predictor: Predictor,
    stages: Vec<Observed>,
    input_len: usize,
    input_peak: f32,
    clips: usize,
}

/// What is known of the output of a stage.
struct Observed {
    node: NodeId,
    name: String,
    size: usize,
    low: f32,
    high: f32,
    kept: Vec<f32>,
    /// Whether its numbers are those of the stage before it.
    passes_on: bool,
}

impl Calibrator {
    /// A calibrator of a model; `stages` are its layers, and `batch` clips are computed at once.
    ///
    /// # Errors
    /// The weights are those of another model, or the memory does not suffice.
    pub fn new(model: &Model, weights: &Weights, stages: &Stages, batch: usize) -> Result<Calibrator, ExportError> {
        let observe = |stage: &crate::export::Stage| {
            let form = &stage.form;
            let node = model.graph().find(&form.output_name)?;
            Some(Observed {
                node,
                name: form.output_name.clone(),
                size: form.output.size(),
                low: 0.0,
                high: 0.0,
                kept: Vec::new(),
                passes_on: matches!(form.kernel, Kernel::MaxPool { .. }),
            })
        };
        let stages: Vec<Observed> = stages.stages.iter().filter_map(observe).collect();
        let predictor = Predictor::builder(model.clone(), weights.clone()).batch(batch);
        let predictor = predictor.keep(stages.iter().map(|stage| stage.node)).build()?;
        Ok(Calibrator { predictor, stages, input_len: model.input_shape().size(), input_peak: 0.0, clips: 0 })
    }

    /// Adds clips, `[n, length, channels]`, standardised if the network's inputs are; `n` is at most the batch.
    ///
    /// # Errors
    /// The array does not hold a whole number of clips, or too many, or none.
    pub fn add(&mut self, inputs: &[f32]) -> Result<(), ExportError> {
        self.predictor.run(inputs)?;
        self.input_peak = inputs.iter().fold(self.input_peak, |peak, x| peak.max(x.abs()));
        let clips = inputs.len() / self.input_len.max(1);
        for stage in &mut self.stages {
            let values = self.predictor.activation(stage.node)?;
            let values = values.ok_or_else(|| crate::train::TrainError::NotKept { layer: stage.name.clone() })?;
            for (i, values) in values.chunks_exact(stage.size).take(clips).enumerate() {
                stage.low = values.iter().fold(stage.low, |low, &x| low.min(x));
                stage.high = values.iter().fold(stage.high, |high, &x| high.max(x));
                let first = self.clips + i;
                let places = (0..KEPT_OF_CLIP.min(stage.size)).map(|n| (first + n).wrapping_mul(STEP) % stage.size);
                stage.kept.extend(places.map(|place| values[place]));
            }
        }
        self.clips += clips;
        Ok(())
    }

    /// The ranges with the smallest mean squared error for the clips that were added.
    pub fn finish(self) -> Calibration {
        let mut outputs: Vec<Range> = Vec::with_capacity(self.stages.len());
        let mut extents = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            let whole = Range { low: stage.low, high: stage.high };
            extents.push(whole);
            outputs.push(match outputs.last() {
                Some(&before) if stage.passes_on => before,
                _ => whole.narrowed(&stage.kept),
            });
        }
        Calibration { input_peak: self.input_peak, outputs, extents, clips: self.clips }
    }
}
