//! How long a network takes in integers and in floating point.

use super::{IntegerExecutor, IntegerNetwork};
use crate::data::Dataset;
use crate::export::error::ExportError;
use crate::ops::ConvChoice;
use crate::simd::Isa;
use crate::train::{Bundle, Predictor};
use serde::Serialize;
use std::time::Instant;

/// Clips that are computed before the first one that is measured.
const WARM_UP: usize = 3;

/// Seconds that a clip takes on one thread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct IntegerTiming {
    /// Median in floating point.
    pub seconds_f32: f64,
    /// Median in integers.
    pub seconds: f64,
    /// Median of the ratios of both times of a clip: below 1 where integers are faster.
    pub ratio: f64,
    /// Clips that were measured.
    pub clips: usize,
}

/// Measures one clip after another, each in floating point and directly after that in integers, on one thread.
///
/// # Errors
/// The weights are those of another network, or the memory or a thread is not available.
pub fn time_integer(
    bundle: &Bundle,
    integer: &IntegerNetwork,
    (data, clips): (&Dataset, &[u32]),
    (isa, conv): (Isa, ConvChoice),
) -> Result<IntegerTiming, ExportError> {
    let predictor = Predictor::builder(&bundle.network, bundle.weights.clone()).conv(conv);
    let mut predictor = predictor.device(isa).build()?;
    let mut executor = IntegerExecutor::new(integer.clone(), isa);
    let mut input = vec![0.0; data.row_len()];
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|_| ExportError::NoThread)?;
    let mut measure = || {
        for (i, &clip) in clips.iter().take(WARM_UP).chain(clips).enumerate() {
            data.write_for(integer.standardisation.as_ref(), clip as usize, &mut input);
            integer.standardisation.iter().for_each(|values| values.apply(&mut input));
            let begun = Instant::now();
            predictor.run(&input)?;
            let float = begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            executor.logits_of_standardised(&input)?;
            let integer = begun.elapsed().as_secs_f64();
            if i >= clips.len().min(WARM_UP) {
                let of_clip = [float, integer, integer / float.max(1e-12)];
                times.iter_mut().zip(of_clip).for_each(|(times, time)| times.push(time));
            }
        }
        Ok::<(), ExportError>(())
    };
    pool.install(&mut measure)?;
    let [seconds_f32, seconds, ratio] = times.map(median);
    Ok(IntegerTiming { seconds_f32, seconds, ratio, clips: clips.len() })
}

/// The median; 0 without numbers.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}
