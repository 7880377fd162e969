//! Floor 6. One training step after another: batch -> arena -> forward -> loss -> backward -> Adam.

use super::error::TrainError;
use super::weights::Weights;
use crate::base::rng::{Key, Stream};
use crate::data::Dataset;
use crate::data::FULL_SCALE;
use crate::exec::cuda::Cuda;
use crate::exec::{Cost, Cpu, Device, Executor, Tally};
use crate::graph::{Keep, NodeId, Plan, PlanOptions, Work};
use crate::nn::{Initialisation, Network, initialise};
use crate::optim::{Adam, AdamSettings};
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
/// On the processor it must be made and used on the threads of one rayon pool: `pool.install(|| ..)`. On a GPU weights and optimiser
/// live there: [`Trainer::fetch`] brings them back.
pub struct Trainer {
    /// The network.
    pub network: Arc<Network>,
    /// Its weights.
    pub weights: Weights,
    /// The optimiser.
    pub adam: Adam,
    executor: Executor,
    seed: u64,
}

impl Trainer {
    /// A trainer of `network` on batches of `batch` clips, with initial weights drawn from `seed`.
    pub fn new(
        network: Arc<Network>,
        batch: usize,
        settings: AdamSettings,
        (init, seed): (Initialisation, u64),
        device: impl Into<Device>,
    ) -> Result<Trainer, TrainError> {
        let options = Trainer::options(&network, batch);
        Trainer::with_plan(network, &options, settings, (init, seed), device)
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
        device: impl Into<Device>,
    ) -> Result<Trainer, TrainError> {
        let device = device.into();
        let plan = Arc::new(Plan::new(&network.graph, &device.options(options))?);
        let executor = match &device {
            Device::Cpu(isa) => Executor::Cpu(Cpu::new(plan, *isa)),
            Device::Cuda(gpu, _) => {
                let labels = plan.inputs.len() - 1;
                Executor::Cuda(Box::new(Cuda::for_training(plan, gpu.clone(), network.logits, labels)?))
            }
        };
        let mut weights = Weights::zeros(&network.graph);
        initialise(&network.graph, init, seed, &mut weights.params, &mut weights.state);
        let adam = Adam::new(network.graph.params_len(), settings);
        let mut trainer = Trainer { executor, network, weights, adam, seed };
        trainer.weights_changed()?;
        Ok(trainer)
    }

    /// Must be called after the weights or the optimiser's moments were changed from outside.
    ///
    /// # Errors
    /// The GPU refuses them.
    pub fn weights_changed(&mut self) -> Result<(), TrainError> {
        self.executor.prepare(&self.weights.params, &self.weights.state)?;
        if let Executor::Cuda(cuda) = &mut self.executor {
            cuda.set_moments(&self.adam.m, &self.adam.v)?;
        }
        Ok(())
    }

    /// Brings weights and optimiser up to date with the steps done; on the processor they always are.
    ///
    /// # Errors
    /// The GPU does not give them.
    pub fn fetch(&mut self) -> Result<(), TrainError> {
        if let Executor::Cuda(cuda) = &self.executor {
            let Adam { m, v, .. } = &mut self.adam;
            cuda.fetch(&mut self.weights.params, &mut self.weights.state, [m, v])?;
        }
        Ok(())
    }

    /// The key of the next step's random numbers.
    pub fn draw(&self) -> Key {
        Key::new(self.seed, Stream::Dropout).with(self.adam.step)
    }

    /// A step on `inputs` `[n, length, channels]` and `labels` `[n]` (class numbers). If the loss is not finite, the
    /// weights are left as they were.
    ///
    /// # Errors
    /// The GPU fails; never on the processor.
    ///
    /// # Panics
    /// If the arrays have not the batch's length.
    pub fn step(&mut self, inputs: &[f32], labels: &[f32]) -> Result<Step, TrainError> {
        let draw = self.draw();
        let cpu = match &mut self.executor {
            Executor::Cpu(cpu) => cpu,
            Executor::Cuda(cuda) => {
                let tally = cuda.step(&[inputs, labels], draw, self.adam.rates())?;
                return Ok(self.learned(tally, labels.len()));
            }
        };
        cpu.run(&self.weights.params, &mut self.weights.state, &[inputs, labels], draw);
        let step = Step { loss: cpu.loss(), correct: correct(cpu, self.network.logits, labels) };
        if step.loss.is_finite() {
            self.adam.step(cpu.isa(), &mut self.weights.params, cpu.gradient_sums(), &cpu.plan().summed_once);
            cpu.prepare(&self.weights.params, &self.weights.state);
        }
        Ok(step)
    }

    /// Has a GPU hold all clips of `data`, if its memory suffices: then steps are [`Trainer::step_held`]. Whether it does.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn hold(&mut self, data: &Dataset) -> Result<bool, TrainError> {
        match &mut self.executor {
            Executor::Cpu(_) => Ok(false),
            Executor::Cuda(cuda) => Ok(cuda.hold((0..data.clips().len()).map(|clip| data.samples(clip)), FULL_SCALE)?),
        }
    }

    /// A step as [`Trainer::step`], on clips that the GPU holds, by number.
    ///
    /// # Errors
    /// The GPU fails.
    ///
    /// # Panics
    /// If no clips are held, or the arrays have not the batch's length.
    pub fn step_held(&mut self, clips: &[u32], labels: &[f32]) -> Result<Step, TrainError> {
        match &mut self.executor {
            Executor::Cpu(_) => panic!("the processor holds no clips"),
            Executor::Cuda(cuda) => {
                let draw = Key::new(self.seed, Stream::Dropout).with(self.adam.step);
                let tally = cuda.step_held(clips, labels, draw, self.adam.rates())?;
                Ok(self.learned(tally, labels.len()))
            }
        }
    }

    /// What a GPU's step did; where it was one, Adam has gone on.
    fn learned(&mut self, tally: Tally, n: usize) -> Step {
        let loss = tally.loss / n as f64;
        if loss.is_finite() {
            self.adam.advance();
        }
        Step { loss, correct: tally.correct }
    }

    /// The gradient of the last step's mean loss with respect to all parameters, in the order of the arena.
    ///
    /// # Errors
    /// The GPU does not give it.
    pub fn gradients(&self) -> Result<Vec<f32>, TrainError> {
        Ok(self.executor.parameter_gradients()?)
    }

    /// On a GPU: seconds that a step takes with the batch of the last one; median of `runs`.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn measure_step(&mut self, runs: usize) -> Result<f64, TrainError> {
        Ok(self.executor.measure(runs)?)
    }

    /// On a GPU: what each kernel of a step costs, and how many seconds it takes; median of `runs`. The weights are no use afterwards.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn measure_kernels(&mut self, runs: usize) -> Result<Vec<(Cost, f64)>, TrainError> {
        match &mut self.executor {
            Executor::Cuda(cuda) => Ok(cuda.measure(runs)?),
            Executor::Cpu(_) => Ok(Vec::new()),
        }
    }

    /// Bytes of activations, gradients and sums.
    pub fn memory_bytes(&self) -> usize {
        self.executor.memory_bytes()
    }
}

/// How many of the batch have their label's logit as the largest.
fn correct(cpu: &Cpu, logits: NodeId, labels: &[f32]) -> u64 {
    let right = labels.iter().enumerate().filter(|&(sample, &label)| {
        let logits = cpu.activation_of(logits, sample);
        logits.is_some_and(|logits| largest(logits) == label as usize)
    });
    right.count() as u64
}

/// The place of the largest number; the first of equals.
pub fn largest(numbers: &[f32]) -> usize {
    (1..numbers.len()).fold(0, |best, i| if numbers[i] > numbers[best] { i } else { best })
}
