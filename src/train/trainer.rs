//! Floor 6. One training step after another: batch -> arena -> forward -> loss -> backward -> Adam.

use super::error::TrainError;
use super::weights::Weights;
use crate::base::rng::{Key, Stream};
use crate::exec::Cpu;
use crate::graph::{Keep, Plan, PlanOptions, Work};
use crate::nn::{Initialisation, Network, initialise};
use crate::optim::{Adam, AdamSettings};
use crate::simd::Isa;
use std::sync::Arc;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Mean loss of the batch, before the update.
    pub loss: f64,
    /// Clips of the batch that were recognised.
    pub correct: u64,
}

/// A network in training: weights, optimiser and the memory of a step. After it is made, a step allocates nothing.
///
/// Must be made and used on the threads of one rayon pool: `pool.install(|| ..)`.
pub struct Trainer {
    /// The network.
    pub network: Arc<Network>,
    /// Its weights.
    pub weights: Weights,
    /// The optimiser.
    pub adam: Adam,
    cpu: Cpu,
    seed: u64,
}

impl Trainer {
    /// A trainer of `network` on batches of `batch` clips, with initial weights drawn from `seed`.
    pub fn new(
        network: Arc<Network>,
        batch: usize,
        settings: AdamSettings,
        (init, seed): (Initialisation, u64),
        isa: Isa,
    ) -> Result<Trainer, TrainError> {
        let options = Trainer::options(&network, batch);
        Trainer::with_plan(network, &options, settings, (init, seed), isa)
    }

    /// How [`Trainer::new`] lowers a network: fused where that is faster, keeping the logits.
    pub fn options(network: &Network, batch: usize) -> PlanOptions {
        PlanOptions::new(batch, Work::Train(network.loss)).keep(Keep::Nodes(vec![network.logits]))
    }

    /// A trainer that lowers the network by other options than [`Trainer::options`], which they must begin from.
    pub fn with_plan(
        network: Arc<Network>,
        options: &PlanOptions,
        settings: AdamSettings,
        (init, seed): (Initialisation, u64),
        isa: Isa,
    ) -> Result<Trainer, TrainError> {
        let plan = Plan::new(&network.graph, options)?;
        let mut weights = Weights::zeros(&network.graph);
        initialise(&network.graph, init, seed, &mut weights.params, &mut weights.state);
        let adam = Adam::new(network.graph.params_len(), settings);
        let mut trainer = Trainer { cpu: Cpu::new(Arc::new(plan), isa), network, weights, adam, seed };
        trainer.weights_changed();
        Ok(trainer)
    }

    /// Must be called after the weights were changed from outside.
    pub fn weights_changed(&mut self) {
        self.cpu.prepare(&self.weights.params, &self.weights.state);
    }

    /// The key of the next step's random numbers.
    pub fn draw(&self) -> Key {
        Key::new(self.seed, Stream::Dropout).with(self.adam.step)
    }

    /// A step on `inputs` `[n, length, channels]` and `labels` `[n]` (class numbers). If the loss is not finite, the
    /// weights are left as they were.
    ///
    /// # Panics
    /// If the arrays have not the batch's length.
    pub fn step(&mut self, inputs: &[f32], labels: &[f32]) -> Step {
        let draw = self.draw();
        self.cpu.run(&self.weights.params, &mut self.weights.state, &[inputs, labels], draw);
        let step = Step { loss: self.cpu.loss(), correct: self.correct(labels) };
        if step.loss.is_finite() {
            self.adam.step(self.cpu.isa(), &mut self.weights.params, self.cpu.gradient_sums());
            self.weights_changed();
        }
        step
    }

    fn correct(&self, labels: &[f32]) -> u64 {
        let right = labels.iter().enumerate().filter(|&(sample, &label)| {
            let logits = self.cpu.activation_of(self.network.logits, sample);
            logits.is_some_and(|logits| largest(logits) == label as usize)
        });
        right.count() as u64
    }

    /// The gradient of the last step's mean loss with respect to all parameters, in the order of the arena.
    pub fn gradients(&self) -> Vec<f32> {
        self.cpu.parameter_gradients()
    }

    /// Bytes of activations, gradients and sums.
    pub fn memory_bytes(&self) -> usize {
        self.cpu.plan().memory_bytes(rayon::current_num_threads())
    }
}

/// The place of the largest number; the first of equals.
pub fn largest(numbers: &[f32]) -> usize {
    (1..numbers.len()).fold(0, |best, i| if numbers[i] > numbers[best] { i } else { best })
}
