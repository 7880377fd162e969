//! The two parts of a network that is cut at a layer, each a graph of its own with its weights.

use super::error::ListenError;
use crate::base::Shape;
use crate::base::rng::{Key, Stream};
use crate::exec::Cpu;
use crate::graph::{Graph, GraphError, NodeId, Plan, PlanOptions, Work};
use crate::nn::Network;
use crate::ops::ConvChoice;
use crate::simd::Isa;
use crate::train::Weights;
use std::sync::Arc;

/// Copies of some nodes of a network.
struct Copies {
    graph: Graph,
    /// For each copy with an operation the node that it copies.
    of: Vec<(NodeId, NodeId)>,
    target: NodeId,
}

/// A graph of the nodes from `input` to `target`, on an input of shape `shape`.
fn copies(network: &Network, input: NodeId, shape: Shape, target: NodeId) -> Result<Copies, GraphError> {
    let (from, needed) = (&network.graph, network.graph.ancestors(target));
    let mut graph = Graph::new();
    let mut at = vec![None; from.nodes().len()];
    at[input.index()] = Some(graph.input(&from.node(input).name, shape)?);
    let mut of = Vec::new();
    for id in from.ids().skip(input.index() + 1).filter(|id| needed[id.index()]) {
        let node = from.node(id);
        let inputs: Option<Vec<NodeId>> = node.inputs.iter().map(|input| at[input.index()]).collect();
        if let (Some(op), Some(inputs)) = (&node.op, inputs) {
            let copy = graph.add_shared(&node.name, op.clone(), &inputs)?;
            at[id.index()] = Some(copy);
            of.push((copy, id));
        }
    }
    let target = at[target.index()].unwrap_or(NodeId(0));
    Ok(Copies { graph, of, target })
}

/// The trunk of a network that is cut at `cut`, on a segment of `samples` samples, and its output.
pub(super) fn trunk_graph(network: &Network, cut: NodeId, samples: usize) -> Result<(Graph, NodeId), GraphError> {
    let shape = Shape::new(samples, network.graph.shape(network.audio).c);
    copies(network, network.audio, shape, cut).map(|copies| (copies.graph, copies.target))
}

/// A part of a network with its weights and the memory to run it.
pub(super) struct Part {
    cpu: Cpu,
    weights: Weights,
    target: NodeId,
}

impl Part {
    /// The trunk on batches of at most `batch` segments of `samples` samples.
    pub(super) fn trunk(
        network: &Network,
        weights: &Weights,
        cut: NodeId,
        samples: usize,
        how: How,
    ) -> Result<Part, ListenError> {
        let shape = Shape::new(samples, network.graph.shape(network.audio).c);
        Part::new(network, weights, copies(network, network.audio, shape, cut)?, how)
    }

    /// The head on batches of at most `batch` windows.
    pub(super) fn head(network: &Network, weights: &Weights, cut: NodeId, how: How) -> Result<Part, ListenError> {
        let copies = copies(network, cut, network.graph.shape(cut), network.logits)?;
        Part::new(network, weights, copies, how)
    }

    fn new(network: &Network, weights: &Weights, copies: Copies, how: How) -> Result<Part, ListenError> {
        let Copies { graph, of, target } = copies;
        let mut own = Weights::zeros(&graph);
        for (copy, id) in of {
            let (to, from) = (graph.node(copy), network.graph.node(id));
            own.params[to.params.range()].copy_from_slice(&weights.params[from.params.range()]);
            own.state[to.state.range()].copy_from_slice(&weights.state[from.state.range()]);
        }
        let options = PlanOptions::new(how.batch, Work::Infer(target)).conv(how.conv);
        let mut cpu = Cpu::new(Arc::new(Plan::new(&graph, &options)?), how.isa)?;
        cpu.prepare(&own.params, &own.state);
        Ok(Part { cpu, weights: own, target })
    }

    /// MACs of the head of a network that is cut at `cut`.
    pub(super) fn head_macs(network: &Network, cut: NodeId) -> u64 {
        let needed = network.graph.ancestors(network.logits);
        let after = network.graph.ids().skip(cut.index() + 1).filter(|id| needed[id.index()]);
        after.map(|id| network.graph.node(id).spec.macs).sum()
    }

    /// The most inputs of a run.
    pub(super) fn batch(&self) -> usize {
        self.cpu.plan().n
    }

    /// Values of an input.
    pub(super) fn input_len(&self) -> usize {
        self.cpu.plan().inputs[0].size()
    }

    /// Computes the part for a batch of inputs.
    pub(super) fn run(&mut self, inputs: &[f32]) {
        let Weights { params, state } = &mut self.weights;
        // Nothing in a plan for inference draws random numbers.
        self.cpu.run(params, state, &[inputs], Key::new(0, Stream::Dropout));
    }

    /// The output for one input of the last run, `[l, c]`.
    pub(super) fn output(&self, input: usize) -> &[f32] {
        self.cpu.activation_of(self.target, input).expect("the target is kept, and the input is one of the last run")
    }
}

/// How a part is computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// The most inputs of a run.
    pub(super) batch: usize,
    pub(super) isa: Isa,
    pub(super) conv: ConvChoice,
}
