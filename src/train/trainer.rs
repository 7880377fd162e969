//! Training steps: the forward pass, the loss, the backward pass and Adam's update of the weights.

use super::error::TrainError;
use super::model::Model;
use super::weights::Weights;
use crate::base::FULL_SCALE;
use crate::base::rng::{Key, Stream};
use crate::exec::cuda::Cuda;
use crate::exec::{Cost, Cpu, Device, Executor, Rates, Tally, Update};
use crate::graph::{Keep, NodeId, Plan, PlanOptions};
use crate::nn::Initialisation;
use crate::ops::ConvChoice;
use crate::optim::{Adam, AdamSettings, Average, decayed};
use std::collections::VecDeque;
use std::sync::Arc;

/// The result of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Mean loss of the batch, before the update.
    pub loss: f64,
    /// Samples of the batch whose largest logit is that of their label, or of the largest share of their label; 0 if the labels are
    /// neither class numbers nor shares of the classes.
    pub correct: u64,
}

/// A model in training: weights, optimiser and the memory of a step.
///
/// Each step takes a batch of any size up to [`TrainerBuilder::batch`], and follows the gradient of the mean loss over that batch. A step
/// allocates nothing on the CPU. It runs on the threads of the rayon pool that it is called from, which should be the one in which the
/// trainer was built: `pool.install(|| ..)`. On a GPU the weights and the optimiser's state are in GPU memory, and [`Trainer::download`]
/// copies them to the host.
///
/// ```
/// # use stapes::prelude::*;
/// # let mut graph = Graph::new();
/// # let audio = graph.input("audio", Shape::new(60, 1))?;
/// # let labels = graph.input("labels", Shape::new(1, 1))?;
/// # let logits = graph.add("fc1", Linear { out: 3, bias: true }, &[audio])?;
/// # let loss = graph.add("loss", SoftmaxCrossEntropy::default(), &[logits, labels])?;
/// # let model = Model::new(graph, logits, loss)?;
/// let mut trainer = Trainer::builder(model).batch(32).seed(1).build()?;
/// let inputs = vec![0.1; 2 * 60]; // [n, length, channels]: two samples
/// let step = trainer.step(&inputs, &[0.0, 2.0])?;
/// assert!(step.loss > 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer {
    model: Model,
    /// How the graph is lowered, for the largest batch.
    options: PlanOptions,
    pub(super) weights: Weights,
    pub(super) adam: Adam,
    executor: Executor,
    seed: u64,
    /// The moving average of the weights, if there is one.
    average: Option<(Average, Weights)>,
    /// The batch sizes of the steps in the queue of a GPU.
    queued: VecDeque<usize>,
}

/// The settings of a [`Trainer`] before it is built.
#[derive(Clone)]
pub struct TrainerBuilder {
    model: Model,
    options: PlanOptions,
    adam: AdamSettings,
    init: Initialisation,
    seed: u64,
    device: Device,
    weights: Option<Weights>,
    average: f32,
}

impl TrainerBuilder {
    /// The most samples that a step takes; 32 by default.
    pub fn batch(self, batch: usize) -> TrainerBuilder {
        TrainerBuilder { options: PlanOptions { n: batch, ..self.options }, ..self }
    }

    /// The settings of Adam.
    pub fn adam(self, adam: AdamSettings) -> TrainerBuilder {
        TrainerBuilder { adam, ..self }
    }

    /// How the weights are initialised.
    pub fn init(self, init: Initialisation) -> TrainerBuilder {
        TrainerBuilder { init, ..self }
    }

    /// The seed of the initial weights and of dropout; 1 by default.
    pub fn seed(self, seed: u64) -> TrainerBuilder {
        TrainerBuilder { seed, ..self }
    }

    /// Where steps are computed; by default on the CPU with its best instruction set.
    pub fn device(self, device: impl Into<Device>) -> TrainerBuilder {
        TrainerBuilder { device: device.into(), ..self }
    }

    /// How convolutions are computed.
    pub fn conv(self, conv: ConvChoice) -> TrainerBuilder {
        TrainerBuilder { options: self.options.conv(conv), ..self }
    }

    /// Which activations and gradients can be read after a step, in addition to the logits.
    pub fn keep(self, keep: Keep) -> TrainerBuilder {
        let keep = match keep {
            Keep::Target => Keep::Nodes(vec![self.model.logits()]),
            Keep::Nodes(nodes) => Keep::Nodes(nodes.into_iter().chain([self.model.logits()]).collect()),
            Keep::Everything => Keep::Everything,
        };
        TrainerBuilder { options: self.options.keep(keep), ..self }
    }

    /// Freezes these nodes of the graph: their parameters, their running statistics and their moments in the optimiser stay as they are to
    /// the bit, and batch norm uses its running statistics. A frozen layer costs no gradient of its weights, and there is no backward
    /// pass below the lowest layer that learns. Dropout, which has no parameters, is unaffected. On a GPU only the first layers of a
    /// network can be frozen, with no layer that learns before them.
    ///
    /// [`parse_freeze`](super::parse_freeze) finds the nodes of a [`Network`](crate::nn::Network) by name.
    pub fn frozen(self, nodes: impl IntoIterator<Item = NodeId>) -> TrainerBuilder {
        TrainerBuilder { options: self.options.frozen(nodes.into_iter().collect()), ..self }
    }

    /// Starts from these weights instead of initial ones.
    pub fn weights(self, weights: Weights) -> TrainerBuilder {
        TrainerBuilder { weights: Some(weights), ..self }
    }

    /// Keeps an exponential moving average of the weights and of batch norm's statistics with this decay, such as 0.999, see [`Average`];
    /// 0, the default, for none. [`Trainer::averaged`] returns it.
    pub fn average(self, decay: f32) -> TrainerBuilder {
        TrainerBuilder { average: decay, ..self }
    }

    /// Lowers the graph and allocates the memory of a step.
    ///
    /// # Errors
    /// The batch is 0, or too small for batch norm; the memory does not suffice; the weights are those of another graph; the decay of the
    /// average is not below 1; every layer is frozen; the device fails, or has no kernels for an operation or for a frozen layer above one
    /// that learns.
    pub fn build(self) -> Result<Trainer, TrainError> {
        let TrainerBuilder { model, options, adam, init, seed, device, weights, average } = self;
        let refused = |reason: &str| TrainError::Model { reason: reason.into() };
        if !(0.0..1.0).contains(&average) {
            return Err(refused(&format!(
                "the decay of the average of the weights is {average}; take at least 0 and less than 1"
            )));
        }
        let graph = model.graph();
        let options = device.options(&options);
        let plan = Arc::new(Plan::new(graph, &options)?);
        let decayed = decayed(graph);
        let executor = match &device {
            // Parameters, running statistics and both moments; the average.
            Device::Cpu(isa) => {
                let (params, states) = if average == 0.0 { (3, 1) } else { (4, 2) };
                let params = graph.params_len().saturating_mul(params);
                let more = params.saturating_add(graph.state_len().saturating_mul(states)).saturating_mul(4);
                Executor::Cpu(Box::new(Cpu::beside(plan, *isa, more)?))
            }
            Device::Cuda(gpu, _) => {
                if !model.labels_name_classes() {
                    return Err(refused(
                        "on a GPU the labels must be class numbers, of shape [1, 1], or shares of the classes; train on the CPU",
                    ));
                }
                let update = Update {
                    logits: model.logits(),
                    labels: usize::from(!model.labels_first()),
                    decayed: if adam.weight_decay == 0.0 { &[] } else { &decayed[..] },
                    clip: adam.clip_norm > 0.0,
                    average: average != 0.0,
                };
                Executor::Cuda(Box::new(Cuda::for_training(plan, gpu.clone(), update)?))
            }
        };
        let weights = match weights {
            Some(weights) => weights.check(graph)?,
            None => Weights::initial(graph, init, seed),
        };
        let mut adam = Adam::new(graph.params_len(), adam);
        adam.decayed = decayed;
        let average = (average != 0.0).then(|| (Average { decay: average }, Weights::zeros(graph)));
        let queued = VecDeque::new();
        let mut trainer = Trainer { executor, model, options, weights, adam, seed, average, queued };
        trainer.weights_changed()?;
        Ok(trainer)
    }
}

impl Trainer {
    /// The settings of a trainer of `model`: a [`Network`](crate::nn::Network), or any graph by [`Model::new`].
    pub fn builder(model: impl Into<Model>) -> TrainerBuilder {
        let model = model.into();
        TrainerBuilder {
            options: model.training_options(32),
            adam: AdamSettings::default(),
            init: Initialisation::default(),
            seed: 1,
            device: Device::default(),
            weights: None,
            average: 0.0,
            model,
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The frozen nodes.
    pub fn frozen(&self) -> &[NodeId] {
        &self.options.frozen
    }

    /// The weights; on a GPU as of the last [`Trainer::download`].
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The moving average of the weights and of batch norm's statistics, if there is one ([`TrainerBuilder::average`]). Before the first
    /// step it is equal to the weights; on a GPU it is that of the last [`Trainer::download`].
    pub fn averaged(&self) -> Option<&Weights> {
        self.average.as_ref().map(|(_, weights)| weights)
    }

    /// Continues with this moving average, which a checkpoint has kept, after [`Trainer::set_weights`], which starts the average anew.
    /// A trainer without an average ignores it.
    ///
    /// # Errors
    /// The weights are those of another graph, or the GPU fails.
    pub fn set_averaged(&mut self, averaged: Weights) -> Result<(), TrainError> {
        if let Some((_, average)) = &mut self.average {
            *average = averaged.check(self.model.graph())?;
            if let Executor::Cuda(cuda) = &mut self.executor {
                cuda.set_average(&average.params, &average.state)?;
            }
        }
        Ok(())
    }

    /// The optimiser; on a GPU its moments are those of the last [`Trainer::download`].
    pub fn adam(&self) -> &Adam {
        &self.adam
    }

    /// Sets the learning rate of the following steps.
    pub fn set_lr(&mut self, lr: f32) {
        self.adam.settings.lr = lr;
    }

    /// Continues from these weights, and from this optimiser if one is given. A moving average starts anew from the weights.
    ///
    /// # Errors
    /// They are those of another graph; on a GPU, the optimiser clips the gradient or has weight decay where the trainer's does not, or the
    /// other way round; the GPU fails.
    pub fn set_weights(&mut self, weights: Weights, adam: Option<Adam>) -> Result<(), TrainError> {
        self.weights = weights.check(self.model.graph())?;
        if let Some(adam) = adam {
            let len = self.weights.params.len();
            if adam.m.len() != len || adam.v.len() != len {
                return Err(TrainError::WrongLength {
                    what: "the optimiser's moments",
                    expected: len,
                    got: adam.m.len(),
                });
            }
            let kinds = |settings: AdamSettings| (settings.weight_decay != 0.0, settings.clip_norm > 0.0);
            let differs = kinds(adam.settings) != kinds(self.adam.settings);
            if differs && matches!(self.executor, Executor::Cuda(_)) {
                let reason = "on a GPU weight decay and clipping of the gradient are switched on or off when the trainer is built; \
                              build it with the settings of this optimiser";
                return Err(TrainError::Model { reason: reason.into() });
            }
            let decayed = std::mem::take(&mut self.adam.decayed);
            self.adam = adam;
            self.adam.decayed = decayed;
        }
        self.weights_changed()
    }

    /// Must be called after the weights or the optimiser's moments were changed from outside.
    pub(super) fn weights_changed(&mut self) -> Result<(), TrainError> {
        self.executor.prepare(&self.weights.params, &self.weights.state)?;
        if let Some((_, average)) = &mut self.average {
            average.params.copy_from_slice(&self.weights.params);
            average.state.copy_from_slice(&self.weights.state);
        }
        if let Executor::Cuda(cuda) = &mut self.executor {
            cuda.set_moments(&self.adam.m, &self.adam.v)?;
            cuda.set_average(&self.weights.params, &self.weights.state)?;
        }
        Ok(())
    }

    /// Copies the weights, their average and the optimiser's state from the GPU; on the CPU there is nothing to do.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn download(&mut self) -> Result<(), TrainError> {
        if let Executor::Cuda(cuda) = &self.executor {
            let Adam { m, v, .. } = &mut self.adam;
            cuda.download(&mut self.weights.params, &mut self.weights.state, [m, v])?;
            if let Some((_, average)) = &mut self.average {
                cuda.download_average(&mut average.params, &mut average.state)?;
            }
        }
        Ok(())
    }

    /// The key of the next step's random numbers.
    pub(super) fn draw(&self) -> Key {
        Key::new(self.seed, Stream::Dropout).with(self.adam.step)
    }

    /// The numbers of the next step's update on a GPU.
    fn rates(&self) -> Rates {
        let average = self.average.as_ref().map_or(0.0, |(average, _)| average.rate(self.adam.step));
        let [beta1, beta2, eps, step_size, root_scale, decay, clip_norm] = self.adam.rates();
        [beta1, beta2, eps, step_size, root_scale, decay, clip_norm, average]
    }

    /// Prepares for batches of `n` samples beside those of the builder's size. On a GPU the first step of each size does so otherwise;
    /// on the CPU there is nothing to prepare.
    ///
    /// # Errors
    /// The batch is larger than the builder's, too small for batch norm, or the GPU's memory does not suffice.
    pub fn reserve(&mut self, n: usize) -> Result<(), TrainError> {
        let plan = self.executor.plan();
        if n < plan.min_batch || n > plan.n {
            return Err(TrainError::BatchSize { n, min: plan.min_batch, max: plan.n });
        }
        if let Executor::Cuda(cuda) = &mut self.executor
            && !cuda.has_batch_size(n)
        {
            let options = PlanOptions { n, ..self.options.clone() };
            cuda.add_batch_size(Arc::new(Plan::new(self.model.graph(), &options)?))?;
        }
        Ok(())
    }

    /// A step on `inputs` `[n, length, channels]` and `labels`, `[n]` class numbers, `[n, classes]` shares, or whatever shape the model's
    /// labels have. If the loss is not finite, the weights stay as they were.
    ///
    /// # Errors
    /// The arrays do not have the same number of samples, or more than [`TrainerBuilder::batch`], or fewer than batch norm needs; the GPU fails.
    ///
    /// # Panics
    /// If there are steps of [`Trainer::submit`] in the queue.
    pub fn step(&mut self, inputs: &[f32], labels: &[f32]) -> Result<Step, TrainError> {
        assert!(self.queued.is_empty(), "`Trainer::wait` is called before the next `Trainer::step`");
        let n = self.samples(inputs, labels)?;
        self.reserve(n)?;
        let (draw, rates) = (self.draw(), self.rates());
        let cpu = match &mut self.executor {
            Executor::Cpu(cpu) => cpu,
            Executor::Cuda(cuda) => {
                cuda.submit(inputs, labels, draw, rates)?;
                self.count_submitted(n);
                return Ok(*self.wait()?.last().expect("a step was in the queue"));
            }
        };
        let given = if self.model.labels_first() { [labels, inputs] } else { [inputs, labels] };
        cpu.run(&self.weights.params, &mut self.weights.state, &given, draw);
        let correct = correct(cpu, &self.model, labels);
        let step = Step { loss: cpu.loss(), correct };
        if step.loss.is_finite() {
            let steps = self.adam.step;
            self.adam.step(cpu.isa(), &mut self.weights.params, cpu.parameter_gradients(), &cpu.plan().frozen);
            if let Some((average, averaged)) = &mut self.average {
                average.step(steps, &mut averaged.params, &self.weights.params);
                average.step(steps, &mut averaged.state, &self.weights.state);
            }
            cpu.prepare(&self.weights.params, &self.weights.state);
        }
        Ok(step)
    }

    /// How many samples a batch has.
    fn samples(&self, inputs: &[f32], labels: &[f32]) -> Result<usize, TrainError> {
        let [input, label] = [self.model.input(), self.model.labels()].map(|id| self.model.graph().shape(id).size());
        let n = inputs.len() / input.max(1);
        let wrong = |what, expected, got| Err(TrainError::WrongLength { what, expected, got });
        if inputs.len() != n * input {
            return wrong("the inputs", (n + 1) * input, inputs.len());
        }
        if labels.len() != n * label {
            return wrong("the labels", n * label, labels.len());
        }
        Ok(n)
    }

    /// Makes clips available by number for [`Trainer::submit`]: `rows`, 16-bit samples, each as long as the model's input. All of
    /// them are copied to the GPU if its memory suffices; on the CPU nothing is copied. Returns whether there is a GPU.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn upload_clips<'r>(&mut self, rows: impl ExactSizeIterator<Item = &'r [i16]>) -> Result<bool, TrainError> {
        if let Executor::Cuda(cuda) = &mut self.executor {
            cuda.upload_clips(rows, FULL_SCALE)?;
        }
        Ok(matches!(self.executor, Executor::Cuda(_)))
    }

    /// Puts a step on uploaded clips in the queue of a GPU, and returns while the GPU computes; `samples` returns the clips for which the
    /// GPU's memory did not suffice. If the queue is full, waits first and returns the results, as [`Trainer::wait`] does; if the loss
    /// of one of those steps is not finite, this step is not submitted. On the CPU the step is computed at once, on the clips that `samples` returns, and
    /// its result is returned.
    ///
    /// # Errors
    /// The batch is larger than [`TrainerBuilder::batch`], the clips do not have the length of the model's input, or the GPU fails.
    ///
    /// # Panics
    /// On a GPU, if no clips were uploaded, or the labels are not those of as many samples as there are clips.
    pub fn submit<'r>(
        &mut self,
        clips: &[u32],
        samples: impl Fn(u32) -> &'r [i16],
        labels: &[f32],
    ) -> Result<Vec<Step>, TrainError> {
        if let Executor::Cpu(_) = &self.executor {
            let inputs = clips.iter().flat_map(|&clip| samples(clip)).map(|&sample| f32::from(sample) * FULL_SCALE);
            return Ok(vec![self.step(&inputs.collect::<Vec<f32>>(), labels)?]);
        }
        let full = matches!(&self.executor, Executor::Cuda(cuda) if cuda.queue_is_full());
        let done = if full { self.wait()? } else { Vec::new() };
        if done.last().is_none_or(|step| step.loss.is_finite()) {
            self.reserve(clips.len())?;
            let (draw, rates) = (self.draw(), self.rates());
            if let Executor::Cuda(cuda) = &mut self.executor {
                cuda.submit_clips((clips, samples), labels, draw, rates)?;
                self.count_submitted(clips.len());
            }
        }
        Ok(done)
    }

    /// Waits for the steps in the queue of a GPU and returns their results in order, up to the first whose loss is not finite; the steps
    /// after that one changed nothing.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn wait(&mut self) -> Result<Vec<Step>, TrainError> {
        let Executor::Cuda(cuda) = &mut self.executor else { return Ok(Vec::new()) };
        let sizes = std::mem::take(&mut self.queued);
        let step = |(tally, &n): (&Tally, &usize)| Step { loss: tally.loss / n as f64, correct: tally.correct };
        let steps: Vec<Step> = cuda.wait()?.iter().zip(&sizes).map(step).collect();
        // Adam has counted the steps that did nothing too.
        let taken = steps.iter().filter(|step| step.loss.is_finite()).count();
        self.adam.step -= (sizes.len() - taken) as u64;
        Ok(steps)
    }

    fn count_submitted(&mut self, n: usize) {
        self.queued.push_back(n);
        self.adam.step += 1;
    }

    /// The gradient of the last step's mean loss with respect to all parameters, in the order of [`Weights::params`].
    ///
    /// # Errors
    /// The GPU fails.
    pub fn gradients(&self) -> Result<Vec<f32>, TrainError> {
        Ok(self.executor.parameter_gradients()?)
    }

    /// A node's output in the last step, `[n, l, c]`; none if it was not kept ([`TrainerBuilder::keep`]).
    ///
    /// # Errors
    /// The GPU fails.
    pub fn activation(&self, node: NodeId) -> Result<Option<Vec<f32>>, TrainError> {
        Ok(self.executor.activation(node)?)
    }

    /// The gradient of the last step's mean loss with respect to a node's output, `[n, l, c]`; none if it was not kept.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn activation_gradient(&self, node: NodeId) -> Result<Option<Vec<f32>>, TrainError> {
        Ok(self.executor.gradient(node)?)
    }

    /// On a GPU: seconds that a step takes with the batch of the last one; median of `runs`.
    ///
    /// # Errors
    /// The GPU fails.
    pub(super) fn measure_step(&mut self, runs: usize) -> Result<f64, TrainError> {
        Ok(self.executor.measure(runs)?)
    }

    /// On a GPU: the cost of each kernel of a step and the seconds that it takes; median of `runs`. The weights cannot be used afterwards.
    ///
    /// # Errors
    /// The GPU fails.
    pub(super) fn measure_kernels(&mut self, runs: usize) -> Result<Vec<(Cost, f64)>, TrainError> {
        match &mut self.executor {
            Executor::Cuda(cuda) => Ok(cuda.measure(runs)?),
            Executor::Cpu(_) => Ok(Vec::new()),
        }
    }

    /// Bytes of activations, gradients, packed weights and gradient accumulators.
    pub fn memory_bytes(&self) -> usize {
        self.executor.memory_bytes()
    }
}

/// How many samples of the batch have their label's logit as the largest, if the labels name classes.
fn correct(cpu: &Cpu, model: &Model, labels: &[f32]) -> u64 {
    if !model.labels_name_classes() {
        return 0;
    }
    let right = labels.chunks_exact(model.label_size()).enumerate().filter(|&(sample, label)| {
        let class = if let [class] = *label { class as usize } else { largest(label) };
        cpu.activation_of(model.logits(), sample).is_some_and(|logits| largest(logits) == class)
    });
    right.count() as u64
}

/// The index of the largest number; the first of equals.
pub fn largest(numbers: &[f32]) -> usize {
    (1..numbers.len()).fold(0, |best, i| if numbers[i] > numbers[best] { i } else { best })
}
