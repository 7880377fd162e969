//! Calibration with training clips, and the evaluation of a network in integers beside the network that it is from.

use super::{Calibration, Calibrator, IntegerExecutor, IntegerNetwork};
use crate::base::Standardisation;
use crate::data::{Dataset, Split};
use crate::export::error::ExportError;
use crate::export::layers::Layers;
use crate::export::stages::Stages;
use crate::simd::Isa;
use crate::train::{Bundle, ClipPrediction, Comparison, Evaluation, Model, Prediction, Predictor};
use rayon::prelude::*;

/// Clips that are computed at once.
const BATCH: usize = 16;

/// How a network in integers differs from the one in floating point.
#[derive(Clone, Debug)]
pub struct IntegerComparison {
    /// Test clips.
    pub clips: usize,
    /// The largest difference of a logit.
    pub largest_logit_difference: f64,
    /// Clips whose most probable class differs.
    pub label_flips: usize,
    /// The accuracies: the first network is that in floating point, the second that in integers.
    pub comparison: Comparison,
    /// The accuracy in floating point, then in integers.
    pub accuracies: [f64; 2],
}

/// Calibrates with at most `most` training clips, spread evenly over all. Whether `data` is standardised makes no difference.
///
/// # Errors
/// There are no training clips, or the weights are those of another network.
pub fn calibrate(bundle: &Bundle, stages: &Stages, data: &Dataset, most: usize) -> Result<Calibration, ExportError> {
    let purpose = "from which the ranges of the activations would be measured";
    let clips = spread(data, Split::Training, most, purpose)?;
    let mut calibrator = Calibrator::new(&Model::from(&bundle.network), &bundle.weights, stages, BATCH)?;
    for clips in clips.chunks(BATCH) {
        calibrator.add(&inputs(bundle.standardisation.as_ref(), data, clips))?;
    }
    Ok(calibrator.finish())
}

/// The network of `bundle` in integers, with ranges from at most `most` training clips of `data`; and how many clips these were.
///
/// # Errors
/// The network cannot be computed in integers, or there are no training clips.
pub fn integer_network(bundle: &Bundle, data: &Dataset, most: usize) -> Result<(IntegerNetwork, usize), ExportError> {
    let stages = Stages::new(&Layers::of(bundle)?.fold_norms()?, "a network in integers")?;
    let calibration = calibrate(bundle, &stages, data, most)?;
    Ok((IntegerNetwork::new(&stages, &calibration)?, calibration.clips))
}

impl IntegerNetwork {
    /// The logits of clips, `[n, length, channels]`, that have been standardised, or need not be. The clips are divided among the threads.
    ///
    /// # Errors
    /// The array does not hold a whole number of clips.
    pub fn logits_of_clips(&self, inputs: &[f32], isa: Isa) -> Result<Vec<Vec<f32>>, ExportError> {
        let executor = || IntegerExecutor::new(self.clone(), isa);
        let logits = inputs.par_chunks(self.input.size().max(1));
        logits.map_init(executor, |executor, clip| executor.logits_of_standardised(clip)).collect()
    }

    /// The evaluation of the network on the clips of a split of `data`, or on all of its clips.
    ///
    /// # Errors
    /// The clips have another length than the input.
    pub fn evaluate(&self, data: &Dataset, split: Option<Split>, isa: Isa) -> Result<Evaluation, ExportError> {
        let all = || (0..data.clips().len() as u32).collect();
        let clips: Vec<u32> = split.map_or_else(all, |split| data.in_split(split));
        let mut predictions = Vec::with_capacity(clips.len());
        // As many at once that each thread has some.
        for clips in clips.chunks(BATCH * rayon::current_num_threads()) {
            let logits = self.logits_of_clips(&inputs(self.standardisation.as_ref(), data, clips), isa)?;
            predictions.extend(clips.iter().zip(&logits).map(|(&clip, logits)| prediction(data, clip, logits)));
        }
        Ok(Evaluation::of(split, data.classes(), predictions))
    }
}

/// Clips for which two evaluations of the same clips have different classes.
pub fn label_flips(first: &Evaluation, second: &Evaluation) -> usize {
    let pairs = first.predictions.iter().zip(&second.predictions);
    pairs.filter(|(a, b)| a.prediction.class != b.prediction.class).count()
}

fn prediction(data: &Dataset, clip: u32, logits: &[f32]) -> ClipPrediction {
    let label = data.clips()[clip as usize].class as usize;
    ClipPrediction { clip, label, prediction: Prediction::of_logits(logits) }
}

/// Compares the networks on at most `most` test clips, spread evenly over all. Whether `data` is standardised makes no difference.
///
/// # Errors
/// There are no test clips, or the weights are those of another network.
pub fn compare_integer(
    bundle: &Bundle,
    integer: &IntegerNetwork,
    data: &Dataset,
    most: usize,
    isa: Isa,
) -> Result<IntegerComparison, ExportError> {
    let clips = spread(data, Split::Testing, most, "on which the network in integers would be compared")?;
    let predictor = Predictor::builder(&bundle.network, bundle.weights.clone()).batch(BATCH);
    let mut predictor = predictor.device(isa).build()?;
    let mut predictions = [Vec::new(), Vec::new()];
    let mut largest = 0.0f64;
    for clips in clips.chunks(BATCH) {
        let inputs = inputs(bundle.standardisation.as_ref(), data, clips);
        predictor.run(&inputs)?;
        for (sample, logits) in integer.logits_of_clips(&inputs, isa)?.iter().enumerate() {
            let exact = predictor.logits(sample);
            for (a, b) in exact.iter().zip(logits) {
                largest = largest.max((f64::from(*a) - f64::from(*b)).abs());
            }
            for (predictions, logits) in predictions.iter_mut().zip([exact, logits]) {
                predictions.push(prediction(data, clips[sample], logits));
            }
        }
    }
    let evaluations = predictions.map(|predictions| Evaluation::of(Some(Split::Testing), data.classes(), predictions));
    Ok(IntegerComparison {
        clips: clips.len(),
        largest_logit_difference: largest,
        label_flips: label_flips(&evaluations[0], &evaluations[1]),
        comparison: Comparison::of(&evaluations[0], &evaluations[1], data),
        accuracies: [evaluations[0].accuracy, evaluations[1].accuracy],
    })
}

/// The numbers of at most `most` clips of a split.
fn spread(data: &Dataset, split: Split, most: usize, purpose: &'static str) -> Result<Vec<u32>, ExportError> {
    let clips = data.in_split(split);
    if clips.is_empty() {
        return Err(ExportError::NoClips { data: data.source().to_string(), split: split.short_name(), purpose });
    }
    let n = most.clamp(1, clips.len());
    Ok((0..n).map(|i| clips[i * clips.len() / n]).collect())
}

/// The inputs of clips as the network takes them.
fn inputs(standardisation: Option<&Standardisation>, data: &Dataset, clips: &[u32]) -> Vec<f32> {
    let row = data.row_len();
    let mut inputs = vec![0.0; clips.len() * row];
    for (&clip, input) in clips.iter().zip(inputs.chunks_exact_mut(row)) {
        data.write_for(standardisation, clip as usize, input);
        standardisation.iter().for_each(|values| values.apply(input));
    }
    inputs
}
