//! Measures the speed of a network on a GPU: each kernel of a training step, and whole steps.

use super::error::TrainError;
use super::model::Model;
use super::predictor::Predictor;
use super::trainer::Trainer;
use crate::base::FULL_SCALE;
use crate::base::rng::{Key, Stream};
use crate::exec::cuda::Gpu;
use crate::exec::{Cost, Device};
use crate::nn::Network;
use crate::ops::device::Precision;
use crate::train::bench::BenchOptions;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;

/// A kernel of a step.
#[derive(Clone, Debug, Serialize)]
pub struct KernelTime {
    /// The layer, the kernel and its cost.
    #[serde(flatten)]
    pub cost: Cost,
    /// Seconds of a launch.
    pub seconds: f64,
}

/// The measurements.
#[derive(Clone, Debug, Serialize)]
pub struct GpuBench {
    /// The network.
    pub name: String,
    /// Clips in a batch.
    pub batch: usize,
    /// The name of the GPU.
    pub gpu: String,
    /// The precision of matrix products.
    pub precision: String,
    /// The kernels of a training step in their order; each timed by itself.
    pub kernels: Vec<KernelTime>,
    /// Seconds of a training step with its batch in GPU memory.
    pub step_seconds: f64,
    /// Seconds of a training step that copies its batch from the host and its loss back.
    pub step_from_host_seconds: f64,
    /// Seconds of a step among many that take their clips by number, as a run does.
    pub step_in_run_seconds: f64,
    /// Seconds to recognise a batch in GPU memory.
    pub recognise_seconds: f64,
}

impl GpuBench {
    /// MACs of a training step.
    pub fn macs(&self) -> u64 {
        self.kernels.iter().map(|kernel| kernel.cost.macs).sum()
    }

    /// Bytes that the kernels of a step read and write.
    pub fn bytes(&self) -> u64 {
        self.kernels.iter().map(|kernel| kernel.cost.bytes).sum()
    }

    /// Share of a step in which no kernel runs, by the kernels' own times; zero where they overlap.
    pub fn gaps(&self) -> f64 {
        let busy: f64 = self.kernels.iter().map(|kernel| kernel.seconds).sum();
        (1.0 - busy / self.step_seconds).max(0.0)
    }
}

/// Runs of each measurement.
const RUNS: usize = 21;
/// Runs of each measurement of a quick benchmark.
const QUICK_RUNS: usize = 3;

/// About how long a sequence of steps takes.
const RUN_SECONDS: f64 = 0.5;

/// Measures `network` on `gpu`.
///
/// # Errors
/// The batch is beyond the GPU's memory, or the GPU fails.
pub fn bench(
    network: &Arc<Network>,
    options: &BenchOptions,
    (gpu, precision): (&Arc<Gpu>, Precision),
) -> Result<GpuBench, TrainError> {
    let (batch, runs) = (options.batch.max(1), if options.quick { QUICK_RUNS } else { RUNS });
    let device = Device::Cuda(gpu.clone(), precision);
    let noise = Key::new(1, Stream::Case);
    let numbers = batch * network.graph.shape(network.audio).size();
    let clips: Vec<f32> = (0..numbers as u64).map(|i| 0.1 * noise.normal(i) as f32).collect();
    let model = Model::from(network);
    let labels = model.example_labels(batch);
    let trainer = Trainer::builder(model.clone()).batch(batch).conv(options.conv);
    let mut trainer = trainer.device(device.clone()).build()?;
    let mut from_host = Vec::with_capacity(runs);
    for _ in 0..runs + 2 {
        let start = Instant::now();
        trainer.step(&clips, &labels)?;
        from_host.push(start.elapsed().as_secs_f64());
    }
    // The first two record the graph and warm the clocks.
    let step_from_host_seconds = median(&mut from_host[2..]);
    let step_seconds = trainer.measure_step(runs)?;
    let kernels = trainer.measure_kernels(runs)?;
    let steps = ((RUN_SECONDS / step_seconds) as usize).clamp(4, 4 * runs);
    let step_in_run_seconds = step_in_run(&mut trainer, (&clips, &labels), steps)?;
    let weights = trainer.weights.clone();
    drop(trainer);
    let predictor = Predictor::builder(model, weights).batch(batch).conv(options.conv);
    let mut predictor = predictor.device(device).build()?;
    predictor.run(&clips)?;
    Ok(GpuBench {
        name: network.spec.name.clone(),
        batch,
        gpu: gpu.name().into(),
        precision: precision.to_string(),
        kernels: kernels.into_iter().map(|(cost, seconds)| KernelTime { cost, seconds }).collect(),
        step_seconds,
        step_from_host_seconds,
        step_in_run_seconds,
        recognise_seconds: predictor.measure(runs)?,
    })
}

/// The mean time of `steps` consecutive steps whose results are read together.
fn step_in_run(trainer: &mut Trainer, (clips, labels): (&[f32], &[f32]), steps: usize) -> Result<f64, TrainError> {
    // The launches that were repeated for the measurement have changed the weights.
    trainer.weights_changed()?;
    let samples: Vec<i16> = clips.iter().map(|&x| (x / FULL_SCALE) as i16).collect();
    let batch = labels.len() / trainer.model().label_size();
    let rows = samples.chunks_exact(samples.len() / batch);
    trainer.upload_clips(rows.clone())?;
    let rows: Vec<&[i16]> = rows.collect();
    let numbers: Vec<u32> = (0..batch as u32).collect();
    // The first records the graph.
    trainer.submit(&numbers, |clip| rows[clip as usize], labels)?;
    trainer.wait()?;
    let start = Instant::now();
    for _ in 0..steps {
        trainer.submit(&numbers, |clip| rows[clip as usize], labels)?;
    }
    trainer.wait()?;
    Ok(start.elapsed().as_secs_f64() / steps as f64)
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
