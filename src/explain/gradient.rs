//! Gradients of a network's outputs, as it is used, with respect to its input and the outputs of its layers.

use super::error::ExplainError;
use crate::base::Shape;
use crate::base::rng::{Key, Stream};
use crate::exec::Cpu;
use crate::graph::{Keep, NodeId, Plan, PlanOptions, Work};
use crate::nn::Network;
use crate::ops::WeightedSum;
use crate::simd::Isa;
use crate::train::{TrainError, Weights};
use std::sync::Arc;

/// Computes a weighted sum of the outputs of a layer for each clip of a batch, and its gradients with respect to the input and to the outputs of layers before it: with running statistics in
/// batch norm and without dropout.
pub struct Differentiator {
    cpu: Cpu,
    weights: Weights,
    input: NodeId,
    input_shape: Shape,
    /// The layer whose outputs are summed.
    of: NodeId,
    of_shape: Shape,
    /// The weights of the sum, `[n, l, c]`.
    chosen: Vec<f32>,
}

impl Differentiator {
    /// A differentiator of the outputs of the layer `of` for batches of at most `batch` clips, on the CPU. The activations and gradients of the layers in `keep` can be read after a run;
    /// [`Network::audio`] stands for the input.
    ///
    /// # Errors
    /// The weights are those of another network, the batch is empty, or the memory does not suffice.
    pub fn new(
        network: &Network,
        weights: &Weights,
        of: NodeId,
        keep: &[NodeId],
        batch: usize,
        isa: Isa,
    ) -> Result<Differentiator, ExplainError> {
        let weights = weights.clone().check(&network.graph)?;
        let mut graph = network.graph.clone();
        let of_shape = graph.shape(of);
        let chosen = graph.input("weights of the sum", of_shape)?;
        let target = graph.add("weighted sum", WeightedSum, &[of, chosen])?;
        let kept = keep.iter().copied().chain([of]).collect();
        let options = PlanOptions::new(batch, Work::Differentiate(target)).keep(Keep::Nodes(kept));
        let mut cpu = Cpu::new(Arc::new(Plan::new(&graph, &options)?), isa)?;
        cpu.prepare(&weights.params, &weights.state);
        let (input, input_shape) = (network.audio, network.graph.shape(network.audio));
        Ok(Differentiator { cpu, weights, input, input_shape, of, of_shape, chosen: Vec::new() })
    }

    /// The most clips that a run takes.
    pub fn batch(&self) -> usize {
        self.cpu.plan().n
    }

    /// Computes the outputs of the layer for clips, `[n, length, channels]`, and for each clip the gradient of the sum of its outputs times `weights`, `[n, l, c]`.
    ///
    /// # Errors
    /// There are no clips, or more than a batch, or an array has another length.
    pub fn run(&mut self, inputs: &[f32], weights: &[f32]) -> Result<(), ExplainError> {
        let (n, max) = (inputs.len() / self.input_shape.size().max(1), self.batch());
        if n == 0 || n > max {
            return Err(TrainError::BatchSize { n, min: 1, max }.into());
        }
        for (what, array, shape) in
            [("the inputs", inputs, self.input_shape), ("the weights of the sum", weights, self.of_shape)]
        {
            let expected = n * shape.size();
            if array.len() != expected {
                return Err(TrainError::WrongLength { what, expected, got: array.len() }.into());
            }
        }
        let Weights { params, state } = &mut self.weights;
        // Nothing in this plan draws random numbers.
        self.cpu.run(params, state, &[inputs, weights], Key::new(0, Stream::Dropout));
        Ok(())
    }

    /// As [`Differentiator::run`], with one channel for each clip: the gradient is that of the mean of this channel over all rows. Of the logits, which have one row, a channel is a class.
    ///
    /// # Errors
    /// As for [`Differentiator::run`]; or the layer has no such channel.
    pub fn run_channels(&mut self, inputs: &[f32], channels: &[usize]) -> Result<(), ExplainError> {
        let Shape { l, c } = self.of_shape;
        if let Some(&channel) = channels.iter().find(|&&channel| channel >= c) {
            return Err(ExplainError::NoSuchChannel { channel, channels: c });
        }
        let mut chosen = std::mem::take(&mut self.chosen);
        chosen.clear();
        chosen.resize(channels.len() * l * c, 0.0);
        for (of_clip, channel) in chosen.chunks_exact_mut(l * c).zip(channels) {
            of_clip.iter_mut().skip(*channel).step_by(c).for_each(|weight| *weight = 1.0 / l as f32);
        }
        let done = self.run(inputs, &chosen);
        self.chosen = chosen;
        done
    }

    /// The outputs of the differentiated layer for clip `clip` of the last run, `[l, c]`.
    ///
    /// # Panics
    /// That run had no such clip.
    pub fn output(&self, clip: usize) -> &[f32] {
        self.cpu.activation_of(self.of, clip).expect("the layer is kept, and the clip is one of the last run")
    }

    /// The output of a layer for the clips of the last run, `[n, l, c]`; none if it was not kept.
    pub fn activation(&self, layer: NodeId) -> Option<Vec<f32>> {
        self.cpu.activation(layer)
    }

    /// The gradient of each clip's sum with respect to the output of a layer, `[n, l, c]`; none if it was not kept.
    pub fn gradient(&self, layer: NodeId) -> Option<Vec<f32>> {
        self.cpu.gradient(layer)
    }

    /// The gradient of each clip's sum with respect to the input, `[n, length, channels]`; none if it was not kept.
    pub fn input_gradient(&self) -> Option<Vec<f32>> {
        self.gradient(self.input)
    }
}
