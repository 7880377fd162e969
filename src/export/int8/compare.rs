//! Calibration with training clips, and the comparison of a network in integers with the network that it is from, on test clips.

use super::{Calibration, Calibrator, IntegerExecutor, IntegerNetwork};
use crate::data::{Dataset, Split};
use crate::export::error::ExportError;
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
        calibrator.add(&inputs(bundle, data, clips))?;
    }
    Ok(calibrator.finish())
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
    let (mut largest, mut label_flips) = (0.0f64, 0);
    for clips in clips.chunks(BATCH) {
        let inputs = inputs(bundle, data, clips);
        predictor.run(&inputs)?;
        let executor = || IntegerExecutor::new(integer.clone(), isa);
        let integers = inputs.par_chunks(data.row_len());
        let integers = integers.map_init(executor, |executor, clip| executor.logits_of_standardised(clip));
        for (sample, logits) in integers.collect::<Result<Vec<_>, _>>()?.iter().enumerate() {
            let exact = predictor.logits(sample);
            for (a, b) in exact.iter().zip(logits) {
                largest = largest.max((f64::from(*a) - f64::from(*b)).abs());
            }
            let clip = clips[sample];
            let label = data.clips()[clip as usize].class as usize;
            let both = [exact, &logits[..]].map(Prediction::of_logits);
            label_flips += usize::from(both[0].class != both[1].class);
            for (predictions, prediction) in predictions.iter_mut().zip(both) {
                predictions.push(ClipPrediction { clip, label, prediction });
            }
        }
    }
    let evaluations = predictions.map(|predictions| Evaluation::of(Some(Split::Testing), data.classes(), predictions));
    Ok(IntegerComparison {
        clips: clips.len(),
        largest_logit_difference: largest,
        label_flips,
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
fn inputs(bundle: &Bundle, data: &Dataset, clips: &[u32]) -> Vec<f32> {
    let row = data.row_len();
    let mut inputs = vec![0.0; clips.len() * row];
    for (&clip, input) in clips.iter().zip(inputs.chunks_exact_mut(row)) {
        data.write_for(bundle.standardisation.as_ref(), clip as usize, input);
        bundle.standardisation.iter().for_each(|values| values.apply(input));
    }
    inputs
}
