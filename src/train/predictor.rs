//! Runs a trained model on clips: logits, probabilities, the most probable class.

use super::error::TrainError;
use super::model::Model;
use super::trainer::largest;
use super::weights::Weights;
use crate::base::rng::{Key, Stream};
use crate::exec::{Device, Executor};
use crate::graph::{Keep, NodeId, Plan, PlanOptions};
use crate::ops::ConvChoice;
use serde::Serialize;
use std::sync::Arc;

/// The output of a model for one clip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The most probable class.
    pub class: usize,
    /// Its probability.
    pub probability: f64,
    /// Probabilities of all classes.
    pub probabilities: Vec<f64>,
}

impl Prediction {
    /// The prediction that follows from the logits of a clip.
    ///
    /// # Panics
    /// If there are none.
    pub fn of_logits(logits: &[f32]) -> Prediction {
        let probabilities = softmax(logits);
        let class = largest(logits);
        Prediction { class, probability: probabilities[class], probabilities }
    }
}

/// A model with its weights and the memory to run it.
///
/// ```no_run
/// use stapes::prelude::*;
/// use std::path::Path;
///
/// let bundle = Bundle::open(Path::new("runs/custom32-8"), Which::Best)?;
/// let mut predictor = Predictor::builder(bundle.network, bundle.weights).build()?;
/// let samples = vec![0.0; 16_000]; // one second of audio at 16 kHz, full scale 1
/// let prediction = &predictor.predict(&samples)?[0];
/// println!("class {} with probability {:.3}", prediction.class, prediction.probability);
/// # Ok::<(), TrainError>(())
/// ```
pub struct Predictor {
    model: Model,
    /// How the graph is lowered, for the largest batch.
    options: PlanOptions,
    weights: Weights,
    executor: Executor,
}

/// The settings of a [`Predictor`] before it is built.
#[derive(Clone)]
pub struct PredictorBuilder {
    model: Model,
    options: PlanOptions,
    weights: Weights,
    device: Device,
}

impl PredictorBuilder {
    /// The most clips that are computed at once; 1 by default, for which all threads share the clip.
    pub fn batch(self, batch: usize) -> PredictorBuilder {
        PredictorBuilder { options: PlanOptions { n: batch, ..self.options }, ..self }
    }

    /// Where the model is computed; by default on the CPU with its best instruction set.
    pub fn device(self, device: impl Into<Device>) -> PredictorBuilder {
        PredictorBuilder { device: device.into(), ..self }
    }

    /// How convolutions are computed.
    pub fn conv(self, conv: ConvChoice) -> PredictorBuilder {
        PredictorBuilder { options: self.options.conv(conv), ..self }
    }

    /// Whose outputs can be read afterwards, with [`Predictor::activation`], beside the logits.
    pub fn keep(self, nodes: impl IntoIterator<Item = NodeId>) -> PredictorBuilder {
        let keep = Keep::Nodes(nodes.into_iter().chain([self.model.logits()]).collect());
        PredictorBuilder { options: self.options.keep(keep), ..self }
    }

    /// Lowers the graph and allocates the memory of a batch.
    ///
    /// # Errors
    /// The batch is 0; the memory does not suffice; the weights are those of another graph; the device fails or has no kernels for an
    /// operation.
    pub fn build(self) -> Result<Predictor, TrainError> {
        let PredictorBuilder { model, options, weights, device } = self;
        let options = device.options(&options);
        let weights = weights.check(model.graph())?;
        let mut executor = Executor::new(Arc::new(Plan::new(model.graph(), &options)?), &device)?;
        executor.prepare(&weights.params, &weights.state)?;
        Ok(Predictor { model, options, weights, executor })
    }
}

impl Predictor {
    /// The settings of a predictor with these weights of `model`: a [`Network`](crate::nn::Network), or any graph by [`Model::new`].
    pub fn builder(model: impl Into<Model>, weights: Weights) -> PredictorBuilder {
        let model = model.into();
        PredictorBuilder { options: model.inference_options(1), model, weights, device: Device::default() }
    }

    /// The most clips that [`Predictor::run`] takes.
    pub fn batch(&self) -> usize {
        self.options.n
    }

    /// Takes other weights of the same model.
    ///
    /// # Errors
    /// They are those of another graph, or the GPU fails.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<(), TrainError> {
        weights.check_len(self.model.graph())?;
        self.weights.params.copy_from_slice(&weights.params);
        self.weights.state.copy_from_slice(&weights.state);
        Ok(self.executor.prepare(&self.weights.params, &self.weights.state)?)
    }

    /// A node's output for the last batch, `[n, l, c]`; none if it was not kept ([`PredictorBuilder::keep`]).
    ///
    /// # Errors
    /// The GPU fails.
    pub fn activation(&self, node: NodeId) -> Result<Option<Vec<f32>>, TrainError> {
        Ok(self.executor.activation(node)?)
    }

    /// Predicts the class of each clip of `inputs`, `[n, length, channels]` with full scale 1; `n` may be larger than
    /// [`Predictor::batch`].
    ///
    /// # Errors
    /// The array does not hold a whole number of clips, or the GPU fails.
    pub fn predict(&mut self, inputs: &[f32]) -> Result<Vec<Prediction>, TrainError> {
        let (clip, n) = (self.model.input_shape().size(), self.samples(inputs)?);
        let mut predictions = Vec::with_capacity(n);
        for batch in inputs.chunks(self.batch() * clip) {
            self.run(batch)?;
            predictions.extend((0..batch.len() / clip).map(|sample| self.prediction(sample)));
        }
        Ok(predictions)
    }

    /// Computes the logits of a batch of clips, `[n, length, channels]`; `n` is at most [`Predictor::batch`].
    ///
    /// # Errors
    /// The array does not hold a whole number of clips, or more than a batch, or none; or the GPU fails.
    pub fn run(&mut self, inputs: &[f32]) -> Result<(), TrainError> {
        let (n, max) = (self.samples(inputs)?, self.batch());
        if n == 0 || n > max {
            return Err(TrainError::BatchSize { n, min: 1, max });
        }
        if let Executor::Cuda(cuda) = &mut self.executor
            && !cuda.has_batch_size(n)
        {
            let options = PlanOptions { n, ..self.options.clone() };
            cuda.add_batch_size(Arc::new(Plan::new(self.model.graph(), &options)?))?;
        }
        let draw = Key::new(0, Stream::Dropout);
        let Weights { params, state } = &mut self.weights;
        Ok(self.executor.run(params, state, &[inputs], draw)?)
    }

    fn samples(&self, inputs: &[f32]) -> Result<usize, TrainError> {
        let size = self.model.input_shape().size();
        let n = inputs.len() / size.max(1);
        if n * size != inputs.len() {
            return Err(TrainError::WrongLength { what: "the inputs", expected: (n + 1) * size, got: inputs.len() });
        }
        Ok(n)
    }

    /// On a GPU: seconds that a batch takes, that of the last run; median of `runs`.
    ///
    /// # Errors
    /// The GPU fails.
    pub(super) fn measure(&mut self, runs: usize) -> Result<f64, TrainError> {
        Ok(self.executor.measure(runs)?)
    }

    /// The logits of clip `sample` of the last run.
    ///
    /// # Panics
    /// If that run had no such clip.
    pub fn logits(&self, sample: usize) -> &[f32] {
        self.executor.target_of(sample)
    }

    /// The prediction for clip `sample` of the last run.
    ///
    /// # Panics
    /// If that run had no such clip.
    pub fn prediction(&self, sample: usize) -> Prediction {
        Prediction::of_logits(self.logits(sample))
    }
}

/// The probabilities of the classes.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&z| f64::from(z - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}
