//! The plan: the graph lowered for one batch size and purpose to a flat list of steps with their buffers.
//!
//! Steps are grouped into **stages**. Within a stage nothing couples samples, so a thread takes one sample through all
//! steps before it takes the next: depth first, with activations that stay in the caches. A [`Phase::Merge`] (batch norm's
//! statistics) ends a stage, and so do a [`Phase::Groups`] and a [`Phase::Batch`] (large dense layers). A network without
//! either trains in a single stage, forward and backward.
//!
//! A buffer that is used within one stage only is in the **workspace** of a thread, which has memory for one sample; a buffer that is
//! used in several stages, or that the caller wants to read, is in a **shard**, which has memory for all of its samples. The number of
//! shards of a batch depends only on the batch and the network. In each stage the gradients of the parameters are accumulated shard by shard, and the
//! accumulators of the shards are added along a fixed binary tree: no result depends on the number of threads.
//!
//! [`Phase::Merge`]: crate::ops::op::Phase::Merge
//! [`Phase::Groups`]: crate::ops::op::Phase::Groups
//! [`Phase::Batch`]: crate::ops::op::Phase::Batch

use super::builder::NodeId;
use crate::base::Shape;
use crate::ops::device::{Passes, Products};
use crate::ops::op::{ConvChoice, MAX_INPUTS, Needs, Op, Pass, PlannedOp, Spec, TensorRanges};
use std::ops::Range;
use std::sync::Arc;

/// What a plan computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The mean over the batch of this node's output (a loss, one number for each sample), and all gradients.
    Train(NodeId),
    /// This node's output, with running statistics and without dropout.
    Infer(NodeId),
    /// This node's output (one number for each sample) as in inference, and its gradients with respect to the kept nodes: of each sample's number, not of the mean. No parameter has a
    /// gradient.
    Differentiate(NodeId),
}

/// Which activations and gradients can be read after a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Only the node that the plan computes.
    #[default]
    Target,
    /// The target and these nodes.
    Nodes(Vec<NodeId>),
    /// Every node, and the gradients of the inputs.
    Everything,
}

impl Keep {
    /// Whether a node is kept for another reason than being the target.
    pub fn has(&self, id: NodeId) -> bool {
        match self {
            Keep::Target => false,
            Keep::Nodes(nodes) => nodes.contains(&id),
            Keep::Everything => true,
        }
    }
}

/// How stages are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As long as possible: sample by sample wherever no op couples samples.
    #[default]
    DepthFirst,
    /// One step in each stage. The results have the same bits.
    LayerByLayer,
}

/// How to lower a graph.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Samples in a batch.
    pub n: usize,
    /// What to compute.
    pub work: Work,
    /// What can be read afterwards.
    pub keep: Keep,
    /// How stages are cut.
    pub order: Order,
    /// Whether consecutive operations are executed by one fused operation.
    pub conv: ConvChoice,
    /// For a GPU, the units that compute matrix products; each pass of an operation is one step for the whole batch. None for the CPU.
    pub device: Option<Products>,
    /// The frozen nodes: in training their parameters and state stay as they are, and batch norm uses its running statistics. Nodes
    /// without parameters have no effect here, and neither has a plan for inference.
    pub frozen: Vec<NodeId>,
}

impl PlanOptions {
    /// Options for `n` samples, keeping nothing, depth first, fused where that is faster.
    pub fn new(n: usize, work: Work) -> PlanOptions {
        let (keep, order, conv) = (Keep::default(), Order::default(), ConvChoice::default());
        PlanOptions { n, work, keep, order, conv, device: None, frozen: Vec::new() }
    }

    /// Sets what can be read after a run.
    pub fn keep(self, keep: Keep) -> PlanOptions {
        PlanOptions { keep, ..self }
    }

    /// Sets how convolutions are computed.
    pub fn conv(self, conv: ConvChoice) -> PlanOptions {
        PlanOptions { conv, ..self }
    }

    /// Freezes these nodes.
    pub fn frozen(self, nodes: Vec<NodeId>) -> PlanOptions {
        PlanOptions { frozen: nodes, ..self }
    }

    /// Lowers for a GPU whose matrix products are computed by these units.
    pub fn device(self, products: Products) -> PlanOptions {
        PlanOptions { device: Some(products), order: Order::LayerByLayer, ..self }
    }
}

/// The kind of memory that a buffer is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Space {
    /// The operand does not exist.
    #[default]
    None,
    /// The batch that the run is given: the input with this index in [`Plan::inputs`].
    Input(usize),
    /// The workspace of a thread: one sample.
    Workspace,
    /// The shard: all of its samples.
    Shard,
}

/// The location of a buffer; offset and length count numbers of one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferLoc {
    /// The kind of memory.
    pub space: Space,
    /// The index of the first number.
    pub offset: usize,
    /// How many numbers there are.
    pub len: usize,
}

impl BufferLoc {
    /// No buffer.
    pub const NONE: BufferLoc = BufferLoc { space: Space::None, offset: 0, len: 0 };
}

/// A node as the plan executes it: in inference, and where it is frozen, its operation may differ from that of the graph.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The graph's node.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// The op that runs.
    pub op: Arc<dyn Op>,
    /// That op for its inputs.
    pub planned: Arc<dyn PlannedOp>,
    /// What that op needs on the CPU.
    pub spec: Spec,
    /// What its passes need on the device of the plan.
    pub needs: Needs,
    /// Shapes of its inputs.
    pub shapes: [Shape; MAX_INPUTS],
    /// How many inputs there are.
    pub inputs: usize,
    /// Its tensors in the parameter arena.
    pub params: TensorRanges,
    /// Its tensors in the state arena.
    pub state: TensorRanges,
    /// Whether it has parameters that do not learn: its backward pass, if there is one, computes the gradients of the inputs only.
    pub frozen: bool,
    /// Its launches in a plan for a GPU.
    pub passes: Option<Passes>,
}

/// One call of an op's pass, for each sample of the batch (or once, if its stage is a merge).
#[derive(Clone, Debug)]
pub struct Step {
    /// Which of [`Plan::nodes`]; none for the step that begins the backward pass with [`Plan::seed`].
    pub node: Option<usize>,
    /// The pass.
    pub pass: Pass,
    /// The phase of the pass.
    pub phase: usize,
    /// Inputs.
    pub x: [BufferLoc; MAX_INPUTS],
    /// Output.
    pub y: BufferLoc,
    /// Gradient of the output.
    pub dy: BufferLoc,
    /// Gradients of the inputs.
    pub dx: [BufferLoc; MAX_INPUTS],
    /// The buffers to which the gradients of the inputs are added afterwards, if several nodes read an input.
    pub add_to: [BufferLoc; MAX_INPUTS],
    /// Data that the forward pass keeps for the backward pass.
    pub saved: BufferLoc,
    /// Temporary memory.
    pub scratch: BufferLoc,
    /// Where the gradients of the parameters are in the accumulators of the stage, see [`Plan::accumulated`]; empty if the step computes none,
    /// or computes them once for the batch.
    pub sums: Range<usize>,
}

impl Step {
    /// The operands of a parameter gradient that is computed once for the batch.
    pub fn operands_of_batch(&self) -> [BufferLoc; 4] {
        [self.x[0], self.x[1], self.y, self.dy]
    }

    /// How many numbers are collected for each sample where the step takes several samples at once.
    pub fn collected_len(&self) -> usize {
        let operands = [self.x[0], self.x[1], self.y, self.dy, self.dx[0], self.dx[1], self.saved].into_iter();
        operands.filter(|loc| matches!(loc.space, Space::Shard | Space::Workspace)).map(|loc| loc.len).sum()
    }
}

/// A part of the accumulators of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accumulated {
    /// The parameters whose gradients it has.
    pub params: Range<usize>,
    /// The index of the first of them in an accumulator.
    pub at: usize,
}

/// Steps that are executed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// These steps for each sample, sample by sample.
    Samples(Range<usize>),
    /// This step once for each group of shards, with all of their samples.
    Groups(usize),
    /// This step once with the samples of all shards, for each piece of its parameter gradients.
    Batch(usize),
    /// This step once.
    Merge(usize),
}

/// A lowered graph. Immutable; executors own the memory.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Samples in a batch: on the CPU the most that a run may have, on a GPU exactly as many as a run has.
    pub n: usize,
    /// The smallest batch that the operations accept.
    pub min_batch: usize,
    /// What is computed.
    pub work: Work,
    /// The nodes that are executed.
    pub nodes: Vec<Lowered>,
    /// The steps in order.
    pub steps: Vec<Step>,
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// Shards of a batch.
    pub shards: usize,
    /// Numbers in a workspace.
    pub workspace_len: usize,
    /// Numbers in a shard for each sample.
    pub shard_len: usize,
    /// Numbers in the parameter arena.
    pub params_len: usize,
    /// Numbers in the state arena.
    pub state_len: usize,
    /// The ranges of parameters, in order, whose gradients are computed once for the batch.
    pub summed_per_batch: Vec<Range<usize>>,
    /// For each stage, the parts of an accumulator of its gradients; none on a GPU.
    pub accumulated: Vec<Vec<Accumulated>>,
    /// The ranges of parameters that do not learn, with the gaps after them: in ascending order, and none adjoins the next. Their
    /// gradients are zero.
    pub frozen: Vec<Range<usize>>,
    /// Shapes of the inputs that a run is given: those that the target depends on, in the order in which they were added to the graph.
    pub inputs: Vec<Shape>,
    /// The location of the output of each node of the graph; it can be read after a run if it is in [`Space::Shard`].
    pub activations: Vec<BufferLoc>,
    /// The location of the gradient of each node of the graph; it can be read after a run if it is in [`Space::Shard`].
    pub gradients: Vec<BufferLoc>,
}

/// The most shards of a training batch: as many threads can take part in a step.
const MAX_SHARDS: usize = 256;
/// The most memory for the gradient accumulators if every shard has one, in numbers (512 MiB), unless one shard exceeds it.
const MAX_SUMS: usize = 1 << 27;
impl Plan {
    /// Whether gradients of the parameters are computed.
    pub fn trains(&self) -> bool {
        matches!(self.work, Work::Train(_))
    }

    /// Whether there is a backward pass.
    pub fn has_backward(&self) -> bool {
        !matches!(self.work, Work::Infer(_))
    }

    /// The gradient of the target with which the backward pass begins, for a batch of `n`: that of the mean, or of each sample's own number.
    pub fn seed(&self, n: usize) -> f32 {
        if self.trains() { 1.0 / n as f32 } else { 1.0 }
    }

    /// The node that is computed.
    pub fn target(&self) -> NodeId {
        match self.work {
            Work::Train(id) | Work::Infer(id) | Work::Differentiate(id) => id,
        }
    }

    /// The ranges of parameters that learn, in ascending order; each begins at a cache line. They are separated by [`Plan::frozen`].
    pub fn learning(&self) -> Vec<Range<usize>> {
        let starts = [0].into_iter().chain(self.frozen.iter().map(|range| range.end));
        let ends = self.frozen.iter().map(|range| range.start).chain([self.params_len]);
        starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty()).collect()
    }

    /// How many shards a batch of `n` samples is cut into; `n` is at most [`Plan::n`].
    pub fn shards_for(&self, n: usize) -> usize {
        self.shards.min(n).max(1)
    }

    /// The samples of shard `p` in a batch of `n` samples.
    pub fn samples(&self, p: usize, n: usize) -> Range<usize> {
        let shards = self.shards_for(n);
        (p * n / shards).min(n)..((p + 1) * n / shards).min(n)
    }

    /// How many groups of shards there are in a batch of `n` samples on this many threads; group `g` begins with shard `g * shards / groups`.
    ///
    /// Each group reads all weights of a large dense layer: fewer groups read them less often. On few threads there are two groups for each, so that
    /// a thread that is late does not keep the others waiting. The result of a sample does not depend on its group.
    pub fn groups_for(&self, n: usize, threads: usize) -> usize {
        self.shards_for(n).min(if threads < 4 { 2 * threads } else { threads.max(8) }).max(1)
    }

    /// Numbers in an accumulator of a stage.
    pub fn sums_of_stage(&self, stage: usize) -> usize {
        self.accumulated[stage].last().map_or(0, |part| part.at + part.params.len())
    }

    /// Numbers in an accumulator: the most of any stage.
    pub fn sums_len(&self) -> usize {
        (0..self.stages.len()).map(|stage| self.sums_of_stage(stage)).max().unwrap_or(0)
    }

    /// The most samples that a shard may hold.
    pub fn shard_capacity(&self) -> usize {
        self.n.div_ceil(self.shards)
    }

    /// Bytes that an executor with `threads` threads allocates for activations, gradients, packed weights and gradient
    /// accumulators; for a GPU, which has no such threads, also for the temporary memory of a pass. A number that is too large for
    /// `usize` becomes the largest.
    pub fn memory_bytes(&self, threads: usize) -> usize {
        self.memory_bytes_of(self.n, threads)
    }

    /// Bytes that an executor of the same graph would allocate for a batch of `n`.
    pub fn memory_bytes_of(&self, n: usize, threads: usize) -> usize {
        let shards = match self.shards {
            1 => 1,
            _ => Plan::shards_of(n, self.trains(), self.sums_len()),
        };
        let batch_saved = self.nodes.iter().map(|node| node.needs.batch_saved as u128).sum::<u128>();
        let gradient = if self.trains() { self.params_len as u128 } else { 0 };
        let accumulators = gradient + accumulators(shards, threads) as u128 * self.sums_len() as u128;
        let activations = shards as u128 * n.div_ceil(shards) as u128 * self.shard_len as u128;
        let collected = self.collected_len() as u128 * n as u128 / self.n as u128;
        let workspaces = threads as u128 * self.workspace_len as u128;
        let numbers = workspaces + activations + batch_saved + accumulators + collected + self.device_scratch() as u128;
        usize::try_from(4 * numbers).unwrap_or(usize::MAX)
    }

    /// The length of the array that collects from all shards the operands of a step that takes many samples at once: the largest of any step.
    pub fn collected_len(&self) -> usize {
        let steps = self.stages.iter().map(|stage| match stage {
            Stage::Groups(step) => self.steps[*step].collected_len(),
            Stage::Batch(step) => {
                let in_shards =
                    self.steps[*step].operands_of_batch().into_iter().filter(|loc| loc.space == Space::Shard);
                in_shards.map(|loc| loc.len).sum()
            }
            Stage::Samples(_) | Stage::Merge(_) => 0,
        });
        self.n.saturating_mul(steps.max().unwrap_or(0))
    }

    /// Numbers of temporary memory of a pass on a GPU.
    pub fn device_scratch(&self) -> usize {
        self.nodes.iter().filter_map(|node| node.passes.as_ref()).map(|passes| passes.scratch).max().unwrap_or(0)
    }

    pub(super) fn shards_of(n: usize, trains: bool, sums_len: usize) -> usize {
        let most = if trains { MAX_SHARDS.min((MAX_SUMS / sums_len.max(1)).max(1)) } else { usize::MAX };
        n.min(most).max(1)
    }
}

/// The most gradient accumulators that `threads` threads use at a time for the sum over `shards` shards, if the shards are begun in order.
///
/// The sums of two neighbours in a binary tree of depth `d` are added as soon as both are finished. A finished sum waits as long as its neighbour has a
/// shard that a thread is working on, or the first shard that is not begun: each of these `threads + 1` shards has `d` sums beside its path to the root,
/// and each thread has the accumulator that it adds to.
pub fn accumulators(shards: usize, threads: usize) -> usize {
    let depth = shards.max(1).next_power_of_two().ilog2() as usize;
    threads.saturating_add(1).saturating_mul(depth).saturating_add(threads).min(shards)
}
