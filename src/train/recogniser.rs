//! Runs a trained network on clips: logits, probabilities, the likeliest class.

use super::error::TrainError;
use super::trainer::largest;
use super::weights::Weights;
use crate::base::rng::{Key, Stream};
use crate::exec::{Device, Executor};
use crate::graph::{Plan, PlanOptions, Work};
use crate::nn::Network;
use serde::Serialize;
use std::sync::Arc;

/// What a network says of one clip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The likeliest class.
    pub class: usize,
    /// Its probability.
    pub probability: f64,
    /// Probabilities of all classes.
    pub probabilities: Vec<f64>,
}

/// A network that recognises, with the memory to do it.
pub struct Recogniser {
    weights: Weights,
    executor: Executor,
    labels: Vec<f32>,
}

impl Recogniser {
    /// A recogniser of batches of `batch` clips.
    pub fn new(
        network: Arc<Network>,
        weights: Weights,
        batch: usize,
        device: impl Into<Device>,
    ) -> Result<Recogniser, TrainError> {
        let options = Recogniser::options(&network, batch);
        Recogniser::with_plan(network, weights, &options, device)
    }

    /// How [`Recogniser::new`] lowers a network: fused where that is faster.
    pub fn options(network: &Network, batch: usize) -> PlanOptions {
        PlanOptions::new(batch, Work::Infer(network.logits))
    }

    /// A recogniser that lowers the network by other options than [`Recogniser::options`], which they must begin from.
    pub fn with_plan(
        network: Arc<Network>,
        weights: Weights,
        options: &PlanOptions,
        device: impl Into<Device>,
    ) -> Result<Recogniser, TrainError> {
        let device = device.into();
        let plan = Plan::new(&network.graph, &device.options(options))?;
        let labels = vec![0.0; options.n];
        let mut executor = Executor::new(Arc::new(plan), &device)?;
        executor.prepare(&weights.params, &weights.state)?;
        Ok(Recogniser { executor, labels, weights })
    }

    /// Takes other weights of the same network.
    ///
    /// # Errors
    /// The GPU refuses them.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<(), TrainError> {
        self.weights.params.copy_from_slice(&weights.params);
        self.weights.state.copy_from_slice(&weights.state);
        Ok(self.executor.prepare(&self.weights.params, &self.weights.state)?)
    }

    /// Computes the logits of a batch of clips, `[n, length, channels]`.
    ///
    /// # Errors
    /// The GPU fails; never on the processor.
    ///
    /// # Panics
    /// If `inputs` has not the batch's length.
    pub fn run(&mut self, inputs: &[f32]) -> Result<(), TrainError> {
        let draw = Key::new(0, Stream::Dropout);
        let Weights { params, state } = &mut self.weights;
        Ok(self.executor.run(params, state, &[inputs, &self.labels], draw)?)
    }

    /// On a GPU: seconds that a batch takes, that of the last run; median of `runs`.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn measure(&mut self, runs: usize) -> Result<f64, TrainError> {
        Ok(self.executor.measure(runs)?)
    }

    /// The number of clips in a batch.
    pub fn batch(&self) -> usize {
        self.labels.len()
    }

    /// The logits of one clip of the batch.
    pub fn logits(&self, sample: usize) -> &[f32] {
        self.executor.target_of(sample)
    }

    /// What the network says of one clip of the batch.
    pub fn prediction(&self, sample: usize) -> Prediction {
        let logits = self.logits(sample);
        let probabilities = softmax(logits);
        let class = largest(logits);
        Prediction { class, probability: probabilities[class], probabilities }
    }
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&z| f64::from(z - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}
