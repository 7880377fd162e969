//! The contract of an op: one trait that holds its shape rule, its slow obvious version and its fast one.
//!
//! An op is declared without shapes (`Conv1d { c_out: 32, k: 5, .. }`); [`Op::spec`] gives, for the shapes it is
//! put on, everything the planner needs. The executors then call the passes with buffers that the planner placed.
//! Building may fail, a pass may not.

use super::device::{Batch, Passes};
use crate::base::{Shape, rng::Key};
use crate::simd::Isa;
use serde::Serialize;
use std::any::Any;
use std::fmt::{self, Debug, Display};
use std::str::FromStr;
use thiserror::Error;

/// Why an op cannot stand on its inputs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{op}: {message}")]
pub struct ShapeError {
    /// The op's name.
    pub op: &'static str,
    /// What is wrong with which number, and what would do.
    pub message: String,
}

impl ShapeError {
    /// An error of `op`, in one sentence without a full stop.
    pub fn new(op: &'static str, message: impl Into<String>) -> ShapeError {
        ShapeError { op, message: message.into() }
    }
}

/// The inputs of `op`, if they are `N` and none is empty: the first line of most shape rules.
pub fn inputs<const N: usize>(op: &'static str, x: &[Shape]) -> Result<[Shape; N], ShapeError> {
    let many = || ShapeError::new(op, format!("it takes {N} input{}, not {}", if N == 1 { "" } else { "s" }, x.len()));
    let shapes: [Shape; N] = x.try_into().map_err(|_| many())?;
    match shapes.iter().find(|shape| shape.l == 0 || shape.c == 0) {
        Some(empty) => Err(ShapeError::new(op, format!("its input is {empty}; both numbers must be at least 1"))),
        None => Ok(shapes),
    }
}

/// How a parameter begins. Fan-in and fan-out count the numbers that one output reads and one input feeds.
#[allow(missing_docs, reason = "the fields are the terms of the literature, explained above")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// A convolution's weights; fan-in `k * c_in`, fan-out `k * c_out`.
    Kernel { fan_in: usize, fan_out: usize },
    /// A dense layer's weights.
    Dense { fan_in: usize, fan_out: usize },
    /// A bias of a layer with this fan-in.
    Bias { fan_in: usize },
    /// Batch norm's scale: starts at one.
    Scale,
    /// Batch norm's shift: starts at zero.
    Shift,
    /// Batch norm's running mean: starts at zero.
    RunningMean,
    /// Batch norm's running variance: starts at one.
    RunningVariance,
}

/// One named tensor of an op: a parameter (trained) or state (kept, not trained).
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// The last part of its name, PyTorch's: `weight`, `bias`, `running_mean`, ..
    pub suffix: &'static str,
    /// How it is laid out here and in a weight file.
    pub layout: Layout,
    /// How it begins.
    pub role: Role,
}

impl TensorSpec {
    /// How many numbers it holds; the largest `usize` where the product is beyond it.
    pub fn len(&self) -> usize {
        match self.layout {
            Layout::Kernel { k, c_in, c_out } => k.saturating_mul(c_in).saturating_mul(c_out),
            Layout::Dense { l, c, out } => l.saturating_mul(c).saturating_mul(out),
            Layout::Vector { c } => c,
            Layout::Features { l, c } => l.saturating_mul(c),
        }
    }

    /// True if it holds nothing, which no op asks for.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The order of a parameter in memory; weight files hold PyTorch's order instead. Fields: `k` taps,
/// `c_in` and `c_out` channels, `l` rows and `c` channels of a flattened input, `out` outputs.
#[allow(missing_docs, reason = "the fields are the house's dimension names, explained above")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[k, c_in, c_out]` here, `[c_out, c_in, k]` in a file.
    Kernel { k: usize, c_in: usize, c_out: usize },
    /// `[l, c, out]` here (rows of the input flattened channels last), `[out, c * l]` in a file (channel-major).
    Dense { l: usize, c: usize, out: usize },
    /// `[c]` in both.
    Vector { c: usize },
    /// One number a feature: `[l, c]` here, `[c * l]` in a file (channel-major).
    Features { l: usize, c: usize },
}

/// One phase of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Sample by sample, in any order, on any thread.
    Samples,
    /// All samples of a part of the batch in one call, one after the other in every operand: for weights that are too many
    /// to be read once a sample.
    Shards,
    /// Backward, before the inputs' gradients: the parameters' gradients once for the whole batch, piece by piece
    /// ([`Op::gradient_piece`]), each from all samples in their order. For parameters so many that their sums in every part would
    /// cost more than what is summed.
    Batch,
    /// Once, when the phase before is done for every sample: couples the samples of the batch ([`Op::merge`]).
    Merge,
}

/// A pass of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// From inputs to output.
    Forward,
    /// From the output's gradient to those of inputs and parameters.
    Backward,
}

/// The phases of an op that couples no samples.
pub const PER_SAMPLE: &[Phase] = &[Phase::Samples];
/// The phase of an op that takes the samples of a part together.
pub const PER_SHARD: &[Phase] = &[Phase::Shards];
/// Backward phases of an op that takes the samples of a part together and sums its gradients once a batch.
pub const PER_BATCH: &[Phase] = &[Phase::Batch, Phase::Shards];

/// What an op needs on given shapes; lengths count `f32`.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Shape of the output.
    pub y: Shape,
    /// Trained tensors, in the order in which they stand in the op's slice of the parameter arena.
    pub params: Vec<TensorSpec>,
    /// Kept but untrained tensors, likewise.
    pub state: Vec<TensorSpec>,
    /// Written by forward for backward, a sample.
    pub saved: usize,
    /// Dead after each call.
    pub scratch: usize,
    /// One for all samples: packed weights made by [`Op::prepare`], or what [`Op::merge`] found.
    pub batch_saved: usize,
    /// Backward reads the inputs.
    pub reads_x: bool,
    /// Backward reads the output.
    pub reads_y: bool,
    /// Output may take the place of the first input, and the first input's gradient that of the output's.
    pub in_place: bool,
    /// Phases of the forward pass; the output is written in the last.
    pub forward: &'static [Phase],
    /// Phases of the backward pass; the inputs' gradients are written in the last.
    pub backward: &'static [Phase],
    /// Multiply-adds of the forward pass, a sample.
    pub macs: u64,
}

impl Spec {
    /// A spec with output shape `y` and nothing else: no parameters, no memory, one phase a pass.
    pub fn new(y: Shape) -> Spec {
        Spec {
            y,
            params: Vec::new(),
            state: Vec::new(),
            saved: 0,
            scratch: 0,
            batch_saved: 0,
            reads_x: false,
            reads_y: false,
            in_place: false,
            forward: PER_SAMPLE,
            backward: PER_SAMPLE,
            macs: 0,
        }
    }

    /// Numbers in the op's slice of the parameter arena.
    pub fn params_len(&self) -> usize {
        self.params.iter().fold(0, |sum, t| sum.saturating_add(t.len()))
    }

    /// Numbers in the op's slice of the state arena.
    pub fn state_len(&self) -> usize {
        self.state.iter().map(TensorSpec::len).sum()
    }
}

/// What stands in an op's place when nothing is learned.
#[derive(Debug)]
pub enum Inference {
    /// The op itself.
    Same,
    /// Nothing: the output is the input.
    Identity,
    /// Another op with the same parameters and state.
    Other(Box<dyn Op>),
}

/// What stands in the place of several ops.
#[derive(Debug)]
pub struct Fused {
    /// The op that does what they do, with the parameters of all.
    pub op: Box<dyn Op>,
    /// How many of the ops that follow the first are in it.
    pub followers: usize,
}

/// How convolutions are computed: the setting `conv`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConvChoice {
    /// Every op by itself: nothing is fused.
    Direct,
    /// Fused with ReLU and pool, with fewer multiplications, wherever there is an op for it.
    Fast,
    /// Fused where that is faster.
    #[default]
    Auto,
}

impl ConvChoice {
    /// The names of all, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["direct", "fast", "auto"];
}

impl Display for ConvChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ConvChoice::NAMES[*self as usize])
    }
}

impl FromStr for ConvChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<ConvChoice, String> {
        match name {
            "direct" => Ok(ConvChoice::Direct),
            "fast" => Ok(ConvChoice::Fast),
            "auto" => Ok(ConvChoice::Auto),
            _ => Err(format!("`{name}` is no way to compute convolutions; take direct, fast or auto")),
        }
    }
}

/// How the kernels of each pass compute: `direct`, `F(8,5)`, `sparse`, ..; empty where an op has only one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Algorithms {
    /// The output.
    pub forward: &'static str,
    /// The gradients of the inputs.
    pub backward_data: &'static str,
    /// The gradients of the parameters.
    pub backward_weight: &'static str,
}

/// Most inputs an op may have.
pub const MAX_INPUTS: usize = 2;

/// Buffers of one sample for the forward pass, or in a [`Phase::Shards`] of several.
pub struct Forward<'a> {
    /// Shapes of the inputs.
    pub shapes: [Shape; MAX_INPUTS],
    /// Place of the (first) sample in the batch.
    pub sample: usize,
    /// Random numbers of this step and node.
    pub draw: Key,
    /// Inputs. The first is empty when the op works in place: then it stands in `y`.
    pub x: [&'a [f32]; MAX_INPUTS],
    /// Output; holds anything before. In inference it may be a piece of it, see [`Op::piece`].
    pub y: &'a mut [f32],
    /// Which of the output's numbers the first in `y` is.
    pub from: usize,
    /// Kept for backward; holds anything before the first phase.
    pub saved: &'a mut [f32],
    /// Holds anything.
    pub scratch: &'a mut [f32],
    /// The op's parameters.
    pub params: &'a [f32],
    /// The op's state.
    pub state: &'a [f32],
    /// See [`Spec::batch_saved`].
    pub batch_saved: &'a [f32],
}

/// Buffers of one sample for the backward pass, or in a [`Phase::Shards`] or [`Phase::Batch`] of several.
pub struct Backward<'a> {
    /// Shapes of the inputs.
    pub shapes: [Shape; MAX_INPUTS],
    /// Place of the (first) sample in the batch.
    pub sample: usize,
    /// Random numbers of this step and node, the forward pass's.
    pub draw: Key,
    /// Inputs, if [`Spec::reads_x`], else empty.
    pub x: [&'a [f32]; MAX_INPUTS],
    /// Output, if [`Spec::reads_y`], else empty.
    pub y: &'a [f32],
    /// Gradient of the output. Empty when the op works in place: then it stands in `dx[0]`.
    pub dy: &'a [f32],
    /// Gradients of the inputs, to be assigned; empty where nobody needs one.
    pub dx: [&'a mut [f32]; MAX_INPUTS],
    /// Gradients of the parameters, to be added to; empty where nobody needs them. In a [`Phase::Batch`] it may be a piece
    /// of them, see [`Op::gradient_piece`]; only inputs, their shapes, output and its gradient are there then.
    pub dparams: &'a mut [f32],
    /// Which of the parameters' gradients the first in `dparams` is.
    pub from: usize,
    /// What forward kept; a phase may write here for the next.
    pub saved: &'a mut [f32],
    /// Holds anything.
    pub scratch: &'a mut [f32],
    /// The op's parameters.
    pub params: &'a [f32],
    /// See [`Spec::batch_saved`].
    pub batch_saved: &'a [f32],
}

/// What a merge sees: what each sample saved, and the op's memory.
pub struct Merge<'a> {
    /// The pass.
    pub pass: Pass,
    /// Shapes of the inputs.
    pub shapes: [Shape; MAX_INPUTS],
    /// Samples in the batch.
    pub n: usize,
    /// What the samples saved, by place in the batch.
    pub saved: &'a dyn Fn(usize) -> &'a [f32],
    /// The op's parameters.
    pub params: &'a [f32],
    /// Gradients of the parameters, to be added to; empty in the forward pass.
    pub dparams: &'a mut [f32],
    /// The op's state.
    pub state: &'a mut [f32],
    /// See [`Spec::batch_saved`].
    pub batch_saved: &'a mut [f32],
}

/// A whole batch in double precision, forward.
pub struct ReferenceForward<'a> {
    /// Samples.
    pub n: usize,
    /// Shapes of the inputs.
    pub shapes: &'a [Shape],
    /// Inputs, `[n, l, c]` each.
    pub x: &'a [&'a [f64]],
    /// The op's parameters.
    pub params: &'a [f64],
    /// The op's state.
    pub state: &'a mut [f64],
    /// Random numbers of this step and node.
    pub draw: Key,
    /// Output, zero before.
    pub y: &'a mut [f64],
}

/// A whole batch in double precision, backward.
pub struct ReferenceBackward<'a> {
    /// Samples.
    pub n: usize,
    /// Shapes of the inputs.
    pub shapes: &'a [Shape],
    /// Inputs.
    pub x: &'a [&'a [f64]],
    /// The op's parameters.
    pub params: &'a [f64],
    /// The op's state: what forward left. Kernels keep what they need of it in `saved`, which a reference has not.
    pub state: &'a [f64],
    /// Random numbers of this step and node.
    pub draw: Key,
    /// Gradient of the output.
    pub dy: &'a [f64],
    /// Gradients of the inputs, to be added to.
    pub dx: &'a mut [Vec<f64>],
    /// Gradients of the parameters, to be added to.
    pub dparams: &'a mut [f64],
}

/// An operation of the graph. See the module's doc.
pub trait Op: Any + Debug + Send + Sync {
    /// Its name in plans, benches and errors: `conv1d`.
    fn name(&self) -> &'static str;

    /// What it needs on inputs of shapes `x`.
    fn spec(&self, x: &[Shape]) -> Result<Spec, ShapeError>;

    /// The smallest training batch that the operation accepts for inputs of shapes `x`. More than 1 where a statistic over the batch would
    /// otherwise be computed from a single value.
    fn min_batch(&self, _x: &[Shape]) -> usize {
        1
    }

    /// What stands in its place when nothing is learned.
    fn for_inference(&self) -> Inference {
        Inference::Same
    }

    /// An op that does what this one and the first of `next` do one after the other; `next` are the ops that follow, each
    /// the only reader of the one before. None if there is no such op, or if it is not the choice. Not asked where the choice
    /// is [`ConvChoice::Direct`].
    fn fuse(&self, _choice: ConvChoice, _next: &[&dyn Op]) -> Option<Fused> {
        None
    }

    /// How its kernels compute on inputs of shapes `x`.
    fn algorithms(&self, _x: &[Shape]) -> Algorithms {
        Algorithms::default()
    }

    /// Plain loops in double precision, obviously right, never optimised.
    fn reference_forward(&self, b: &mut ReferenceForward<'_>);

    /// Likewise. Recomputes from the inputs whatever it needs.
    fn reference_backward(&self, b: &mut ReferenceBackward<'_>);

    /// Once a step, before any pass: packs `params` into `batch_saved`. In inference the `state` may be taken in too.
    fn prepare(&self, _isa: Isa, _x: &[Shape], _params: &[f32], _state: &[f32], _shared: &mut [f32]) {}

    /// One sample forward.
    fn forward(&self, isa: Isa, phase: usize, b: &mut Forward<'_>);

    /// In inference: into pieces of how many numbers (or a multiple) one sample's output may be cut, each made by a call of
    /// its own, so that several threads share a sample. None if it must be made at once.
    fn piece(&self, _x: &[Shape]) -> Option<usize> {
        None
    }

    /// One sample backward.
    fn backward(&self, isa: Isa, phase: usize, b: &mut Backward<'_>);

    /// Into pieces of how many numbers the parameters' gradients are cut in a [`Phase::Batch`].
    fn gradient_piece(&self, _x: &[Shape]) -> usize {
        usize::MAX
    }

    /// Once a part of the batch, after the last pass of its last sample: brings the sums of the parameters' gradients, which the
    /// op may have kept in an order of its own, into that of the parameters. `scratch` is as long as [`Spec::scratch`].
    fn reorder_gradients(&self, _x: &[Shape], _dparams: &mut [f32], _scratch: &mut [f32]) {}

    /// A [`Phase::Merge`]. Must add in the order of the samples, so that no result depends on threads.
    fn merge(&self, _b: &mut Merge<'_>) {}

    /// Its passes on a GPU, for shapes that [`Op::spec`] has accepted. By default there are none, and a plan for a GPU refuses the operation.
    fn on_device(&self, _batch: &Batch<'_>) -> Passes {
        Passes::default()
    }
}
