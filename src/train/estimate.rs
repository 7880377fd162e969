//! How long an epoch takes, from a few steps on throw-away weights.

use super::config::TrainConfig;
use super::error::TrainError;
use super::predictor::Predictor;
use super::prepared::{Prepared, Start};
use super::session::EVAL_BATCH;
use crate::data::{Batches, Dataset, Split};
use crate::exec::Device;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Steps that are not timed: the first one allocates and fills the caches.
const WARMUP: usize = 2;
/// Steps are timed for at least this long.
const ENOUGH: Duration = Duration::from_secs(2);
/// Fewest steps that are timed.
const FEWEST: usize = 3;

/// Seconds that an epoch of a run takes on this machine, validation included.
///
/// # Errors
/// As [`Session::start`](super::Session::start).
pub fn seconds_per_epoch(config: &TrainConfig, data: &Arc<Dataset>, device: Device) -> Result<f64, TrainError> {
    let Prepared { network, mut trainer, batches, epoch, device, .. } =
        Prepared::new(config.clone(), data, device, Start::New)?;
    let mut batches = Batches::train(data.clone(), batches)?;
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < WARMUP + FEWEST || start.elapsed() < ENOUGH {
        let from = Instant::now();
        let batch = batches.next_batch().expect("training batches have no end");
        trainer.step(batch.valid_inputs(), batch.valid_labels())?;
        times.push(from.elapsed().as_secs_f64());
    }
    let training = median(&mut times[WARMUP..]) * epoch.count() as f64;
    let validation = data.in_split(Split::Validation).len();
    if validation == 0 {
        return Ok(training);
    }
    let predictor = Predictor::builder(&network, trainer.weights().clone()).batch(EVAL_BATCH);
    let mut predictor = predictor.conv(config.conv).device(device).build()?;
    let inputs = vec![0.0; EVAL_BATCH * data.row_len()];
    let mut times = Vec::new();
    for _ in 0..WARMUP + FEWEST {
        let from = Instant::now();
        predictor.run(&inputs)?;
        times.push(from.elapsed().as_secs_f64());
    }
    Ok(training + median(&mut times[WARMUP..]) * validation as f64 / EVAL_BATCH as f64)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
