//! One training step after another: batch -> arena -> forward -> loss -> backward -> Adam.

use super::error::TrainError;
use super::weights::Weights;
use crate::base::FULL_SCALE;
use crate::base::rng::{Key, Stream};
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
/// live there: [`Trainer::download`] brings them back.
pub struct Trainer {
    /// The network.
    pub network: Arc<Network>,
    /// Its weights.
    pub weights: Weights,
    /// The optimiser.
    pub adam: Adam,
    executor: Executor,
    seed: u64,
    /// Steps begun on a GPU that are not settled.
    pending: usize,
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
        let mut trainer = Trainer { executor, network, weights, adam, seed, pending: 0 };
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
    pub fn download(&mut self) -> Result<(), TrainError> {
        if let Executor::Cuda(cuda) = &self.executor {
            let Adam { m, v, .. } = &mut self.adam;
            cuda.download(&mut self.weights.params, &mut self.weights.state, [m, v])?;
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
    /// If the arrays have not the batch's length, or steps of [`Trainer::submit`] are not settled.
    pub fn step(&mut self, inputs: &[f32], labels: &[f32]) -> Result<Step, TrainError> {
        assert_eq!(self.pending, 0, "steps under way are settled first");
        let draw = self.draw();
        let cpu = match &mut self.executor {
            Executor::Cpu(cpu) => cpu,
            Executor::Cuda(cuda) => {
                cuda.submit(inputs, labels, draw, self.adam.rates())?;
                self.count_submitted();
                return Ok(*self.wait()?.last().expect("a step was under way"));
            }
        };
        cpu.run(&self.weights.params, &mut self.weights.state, &[inputs, labels], draw);
        let step = Step { loss: cpu.loss(), correct: correct(cpu, self.network.logits, labels) };
        if step.loss.is_finite() {
            self.adam.step(cpu.isa(), &mut self.weights.params, cpu.gradient_sums(), &cpu.plan().summed_per_batch);
            cpu.prepare(&self.weights.params, &self.weights.state);
        }
        Ok(step)
    }

    /// Has a GPU learn from clips by number, with [`Trainer::submit`]: `rows`, 16-bit samples, each as long as the network hears. It takes in all of
    /// them if its memory suffices. Whether there is a GPU.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn upload_clips<'r>(&mut self, rows: impl ExactSizeIterator<Item = &'r [i16]>) -> Result<bool, TrainError> {
        if let Executor::Cuda(cuda) = &mut self.executor {
            cuda.upload_clips(rows, FULL_SCALE)?;
        }
        Ok(matches!(self.executor, Executor::Cuda(_)))
    }

    /// Has a GPU begin a step as [`Trainer::step`] on clips that it was told to hold, by number, and goes on while it computes; `samples` gives those
    /// for which there was no room. Where it must wait for the steps begun before: what they did, as [`Trainer::wait`]; if one was none, this
    /// one is not begun either.
    ///
    /// # Errors
    /// The GPU fails.
    ///
    /// # Panics
    /// If no clips are held, or the arrays have not the batch's length.
    pub fn submit<'r>(
        &mut self,
        clips: &[u32],
        samples: impl Fn(u32) -> &'r [i16],
        labels: &[f32],
    ) -> Result<Vec<Step>, TrainError> {
        let full = matches!(&self.executor, Executor::Cuda(cuda) if cuda.queue_is_full());
        let done = if full { self.wait()? } else { Vec::new() };
        if done.last().is_none_or(|step| step.loss.is_finite()) {
            let draw = self.draw();
            let Executor::Cuda(cuda) = &mut self.executor else { panic!("the processor holds no clips") };
            cuda.submit_clips((clips, samples), labels, draw, self.adam.rates())?;
            self.count_submitted();
        }
        Ok(done)
    }

    /// Waits for the steps begun on a GPU: what each did, in their order, up to the first whose loss is not finite; those behind it were none.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn wait(&mut self) -> Result<Vec<Step>, TrainError> {
        let Executor::Cuda(cuda) = &mut self.executor else { return Ok(Vec::new()) };
        let n = cuda.plan().n as f64;
        let step = |tally: &Tally| Step { loss: tally.loss / n, correct: tally.correct };
        let steps: Vec<Step> = cuda.wait()?.iter().map(step).collect();
        // Adam has gone on with those that were some.
        let taken = steps.iter().filter(|step| step.loss.is_finite()).count();
        self.adam.step -= (std::mem::take(&mut self.pending) - taken) as u64;
        Ok(steps)
    }

    fn count_submitted(&mut self) {
        self.pending += 1;
        self.adam.step += 1;
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
