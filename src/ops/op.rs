//! The traits [`Op`], an operation's shape rule and its reference in double precision, and [`PlannedOp`], its kernels.
//!
//! An operation is declared without shapes (`Conv1d { c_out: 32, k: 5, .. }`). For the shapes of its inputs, [`Op::plan`] returns
//! a [`PlannedOp`], whose [`Spec`] has everything that the planner needs. The executors then call its passes with the buffers that the planner has allocated.
//! Building a graph or a plan may fail; a pass may not.

use super::device::{Batch, Passes};
use crate::base::{Shape, rng::Key};
use crate::simd::Isa;
use serde::Serialize;
use std::any::Any;
use std::fmt::{self, Debug, Display};
use std::str::FromStr;
use thiserror::Error;

/// The reason why an operation cannot be applied to its inputs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{op}: {message}")]
pub struct ShapeError {
    /// The operation's name.
    pub op: &'static str,
    /// Which number is wrong, why, and which numbers are accepted.
    pub message: String,
}

impl ShapeError {
    /// An error of the operation `op`; the message is one sentence without a full stop.
    pub fn new(op: &'static str, message: impl Into<String>) -> ShapeError {
        ShapeError { op, message: message.into() }
    }
}

/// The shapes of the inputs of `op`, if there are `N` of them and none is empty. Most implementations of [`Op::plan`] begin with it.
pub fn inputs<const N: usize>(op: &'static str, x: &[Shape]) -> Result<[Shape; N], ShapeError> {
    let many = || ShapeError::new(op, format!("it takes {N} input{}, not {}", if N == 1 { "" } else { "s" }, x.len()));
    let shapes: [Shape; N] = x.try_into().map_err(|_| many())?;
    match shapes.iter().find(|shape| shape.l == 0 || shape.c == 0) {
        Some(empty) => Err(ShapeError::new(op, format!("its input is {empty}; both numbers must be at least 1"))),
        None => Ok(shapes),
    }
}

/// The role of a tensor, which determines how it is initialised. Fan-in is the number of inputs that one output depends on, fan-out
/// the number of outputs that one input influences.
#[allow(missing_docs, reason = "the fields are the terms of the literature, explained above")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// A convolution's weights; fan-in `k * c_in`, fan-out `k * c_out`.
    Kernel { fan_in: usize, fan_out: usize },
    /// A dense layer's weights.
    Dense { fan_in: usize, fan_out: usize },
    /// The bias of a layer with this fan-in.
    Bias { fan_in: usize },
    /// The scale of batch norm, initially one.
    Scale,
    /// The shift of batch norm, initially zero.
    Shift,
    /// The running mean of batch norm, initially zero.
    RunningMean,
    /// The running variance of batch norm, initially one.
    RunningVariance,
}

/// One named tensor of an operation: a parameter (trained) or state (kept from step to step, not trained).
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// The last part of its name, as in PyTorch: `weight`, `bias`, `running_mean`, ..
    pub suffix: &'static str,
    /// Its order in memory and in a weight file.
    pub layout: Layout,
    /// Its role, which determines its initial values.
    pub role: Role,
}

impl TensorSpec {
    /// The number of its elements; `usize::MAX` if the product overflows.
    pub fn len(&self) -> usize {
        match self.layout {
            Layout::Kernel { k, c_in, c_out } => k.saturating_mul(c_in).saturating_mul(c_out),
            Layout::Dense { l, c, out } => l.saturating_mul(c).saturating_mul(out),
            Layout::Vector { c } => c,
            Layout::Features { l, c } => l.saturating_mul(c),
        }
    }

    /// Whether it has no elements, which no operation requests.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The order of a parameter in memory; weight files use PyTorch's order instead. Fields: `k` taps,
/// `c_in` and `c_out` channels, `l` rows and `c` channels of a flattened input, `out` outputs.
#[allow(missing_docs, reason = "the fields are the dimension names, explained above")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[k, c_in, c_out]` in memory, `[c_out, c_in, k]` in a file.
    Kernel { k: usize, c_in: usize, c_out: usize },
    /// `[l, c, out]` in memory (the input is flattened channels last), `[out, c * l]` in a file (channel-major).
    Dense { l: usize, c: usize, out: usize },
    /// `[c]` in both.
    Vector { c: usize },
    /// One number per feature: `[l, c]` in memory, `[c * l]` in a file (channel-major).
    Features { l: usize, c: usize },
}

/// One phase of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// One call per sample, in any order, on any thread.
    Samples,
    /// One call per group of samples, with all of them one after the other in every operand, and without `dparams`. For operations with so
    /// many weights that reading them once per sample is slow.
    Groups,
    /// Backward, before the gradients of the inputs: the gradients of the parameters are computed once for the whole batch, in pieces
    /// ([`PlannedOp::gradient_piece`]), each from all samples in their order. For operations with so many parameters that accumulating their
    /// gradients sample by sample is slow.
    Batch,
    /// One call of [`PlannedOp::merge`], when the phase before is done for every sample. It couples the samples of the batch.
    Merge,
}

/// A pass of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Computes the output from the inputs.
    Forward,
    /// Computes the gradients of inputs and parameters from the gradient of the output.
    Backward,
}

/// The phases of an operation that is computed sample by sample.
pub const PER_SAMPLE: &[Phase] = &[Phase::Samples];
/// The phases of an operation that is computed for groups of samples.
pub const PER_GROUP: &[Phase] = &[Phase::Groups];
/// The backward phases of an operation that is computed for groups of samples and whose parameter gradients are computed once per batch.
pub const PER_BATCH: &[Phase] = &[Phase::Batch, Phase::Groups];

/// What an operation needs for given input shapes. All lengths are in elements of `f32`.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The shape of the output.
    pub y: Shape,
    /// The trained tensors, in the order of the operation's slice of the parameter arena.
    pub params: Vec<TensorSpec>,
    /// The tensors that are kept from step to step but not trained, in the order of its slice of the state arena.
    pub state: Vec<TensorSpec>,
    /// Memory per sample that is kept from the forward to the backward pass.
    pub saved: usize,
    /// Scratch memory of one call, whose content is lost afterwards.
    pub scratch: usize,
    /// Memory per batch that is kept until the end of the step: packed weights written by [`PlannedOp::prepare`], or statistics written by
    /// [`PlannedOp::merge`].
    pub batch_saved: usize,
    /// Whether the backward pass reads the inputs.
    pub reads_x: bool,
    /// Whether the backward pass reads the output.
    pub reads_y: bool,
    /// Whether the output may overwrite the first input, and the gradient of the first input that of the output.
    pub in_place: bool,
    /// The phases of the forward pass; the output is written in the last one.
    pub forward: &'static [Phase],
    /// The phases of the backward pass; the gradients of the inputs are written in the last one.
    pub backward: &'static [Phase],
    /// Multiply-accumulate operations (MACs) of the forward pass per sample.
    pub macs: u64,
}

impl Spec {
    /// An operation with the output shape `y`, without parameters and memory, computed sample by sample.
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

    /// The length of the operation's slice of the parameter arena.
    pub fn params_len(&self) -> usize {
        self.params.iter().fold(0, |sum, t| sum.saturating_add(t.len()))
    }

    /// The length of the operation's slice of the state arena.
    pub fn state_len(&self) -> usize {
        self.state.iter().map(TensorSpec::len).sum()
    }
}

/// What replaces an operation in a plan for inference, or where its parameters do not learn.
#[derive(Debug)]
pub enum Inference {
    /// The operation itself.
    Same,
    /// Nothing: the output is the input.
    Identity,
    /// Another operation with the same parameters and state.
    Other(Box<dyn Op>),
}

/// How convolutions are computed on the CPU: the setting `conv`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConvChoice {
    /// Every operation by itself; nothing is fused.
    Direct,
    /// Fused with batch norm, ReLU and pooling, and with a Toom-Cook (Winograd) algorithm wherever one exists.
    Fast,
    /// Fused, with the algorithm that is fastest for the layer's shape.
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
            _ => Err(format!("`{name}` is not a way to compute convolutions; use direct, fast or auto")),
        }
    }
}

/// The algorithm of each pass: `direct`, `F(8,5)`, `sparse`, ..; empty where an operation has only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Algorithms {
    /// Of the output.
    pub forward: &'static str,
    /// Of the gradients of the inputs.
    pub backward_data: &'static str,
    /// Of the gradients of the parameters.
    pub backward_weight: &'static str,
}

/// The largest number of inputs of an operation.
pub const MAX_INPUTS: usize = 2;

/// The buffers of the forward pass, of one sample or, in a [`Phase::Groups`], of several.
pub struct Forward<'a> {
    /// The index of the (first) sample in the batch.
    pub sample: usize,
    /// The key of the random numbers of this step and node.
    pub draw: Key,
    /// The inputs. The first is empty if the operation works in place: `y` then contains it.
    pub x: [&'a [f32]; MAX_INPUTS],
    /// The output; its content before is unspecified. In inference it may be a piece of the output, see [`PlannedOp::piece`].
    pub y: &'a mut [f32],
    /// The index in the output of the first element of `y`.
    pub from: usize,
    /// Memory kept for the backward pass; its content before the first phase is unspecified.
    pub saved: &'a mut [f32],
    /// Scratch memory; its content is unspecified.
    pub scratch: &'a mut [f32],
    /// The operation's parameters.
    pub params: &'a [f32],
    /// The operation's state.
    pub state: &'a [f32],
    /// See [`Spec::batch_saved`].
    pub batch_saved: &'a [f32],
}

/// The buffers of the backward pass, of one sample or, in a [`Phase::Groups`] or [`Phase::Batch`], of several.
pub struct Backward<'a> {
    /// The index of the (first) sample in the batch.
    pub sample: usize,
    /// The key of the random numbers of this step and node, the same as in the forward pass.
    pub draw: Key,
    /// The inputs if [`Spec::reads_x`], else empty.
    pub x: [&'a [f32]; MAX_INPUTS],
    /// The output if [`Spec::reads_y`], else empty.
    pub y: &'a [f32],
    /// The gradient of the output. Empty if the operation works in place: `dx[0]` then contains it.
    pub dy: &'a [f32],
    /// The gradients of the inputs, to be assigned; empty where none is needed.
    pub dx: [&'a mut [f32]; MAX_INPUTS],
    /// The gradients of the parameters, to be added to; empty where none are needed. In a [`Phase::Batch`] it may be a piece of them,
    /// see [`PlannedOp::gradient_piece`]; of the other buffers, only the inputs, their shapes, the output and its gradient are given then.
    pub dparams: &'a mut [f32],
    /// The index in the parameters of the first element of `dparams`.
    pub from: usize,
    /// What the forward pass kept; a phase may write to it for the next one.
    pub saved: &'a mut [f32],
    /// Scratch memory; its content is unspecified.
    pub scratch: &'a mut [f32],
    /// The operation's parameters.
    pub params: &'a [f32],
    /// See [`Spec::batch_saved`].
    pub batch_saved: &'a [f32],
}

/// The buffers of [`PlannedOp::merge`]: what each sample saved, and the operation's memory.
pub struct Merge<'a> {
    /// The pass.
    pub pass: Pass,
    /// The number of samples in the batch.
    pub n: usize,
    /// What a sample saved, by its index in the batch.
    pub saved: &'a dyn Fn(usize) -> &'a [f32],
    /// The operation's parameters.
    pub params: &'a [f32],
    /// The gradients of the parameters, to be added to; empty in the forward pass.
    pub dparams: &'a mut [f32],
    /// The operation's state.
    pub state: &'a mut [f32],
    /// See [`Spec::batch_saved`].
    pub batch_saved: &'a mut [f32],
}

/// The buffers of the forward reference: a whole batch in double precision.
pub struct ReferenceForward<'a> {
    /// The number of samples.
    pub n: usize,
    /// The shapes of the inputs.
    pub shapes: &'a [Shape],
    /// The inputs, `[n, l, c]` each.
    pub x: &'a [&'a [f64]],
    /// The operation's parameters.
    pub params: &'a [f64],
    /// The operation's state.
    pub state: &'a mut [f64],
    /// The key of the random numbers of this step and node.
    pub draw: Key,
    /// The output, zero before.
    pub y: &'a mut [f64],
}

/// The buffers of the backward reference: a whole batch in double precision.
pub struct ReferenceBackward<'a> {
    /// The number of samples.
    pub n: usize,
    /// The shapes of the inputs.
    pub shapes: &'a [Shape],
    /// The inputs.
    pub x: &'a [&'a [f64]],
    /// The operation's parameters.
    pub params: &'a [f64],
    /// The operation's state after the forward pass. A reference has no `saved` memory.
    pub state: &'a [f64],
    /// The key of the random numbers of this step and node.
    pub draw: Key,
    /// The gradient of the output.
    pub dy: &'a [f64],
    /// The gradients of the inputs, to be added to.
    pub dx: &'a mut [Vec<f64>],
    /// The gradients of the parameters, to be added to.
    pub dparams: &'a mut [f64],
}

/// An operation of the graph: what it computes, without shapes.
///
/// An implementation consists of its shape rule ([`Op::plan`]), a reference in double precision, and, as a [`PlannedOp`], kernels in single
/// precision, each forward and backward. Graphs, plans, the executors, gradient checks and conformance tests need nothing else.
///
/// # Example
/// A new operation: a ReLU that multiplies negative numbers by a slope instead of setting them to zero. `examples/own_operation.rs` trains a
/// network with it.
/// ```
/// use stapes::base::{Shape, rng::{Key, Stream}};
/// use stapes::exec::{Cpu, SingleOp};
/// use stapes::graph::{Graph, Keep, Plan, PlanOptions, Work};
/// use stapes::ops::case::{Fill, Input};
/// use stapes::ops::op::{
///     Backward, Forward, Op, PlannedOp, ReferenceBackward, ReferenceForward, ShapeError, Spec, inputs,
/// };
/// use stapes::ops::WeightedSum;
/// use stapes::simd::Isa;
///
/// #[derive(Debug)]
/// struct LeakyRelu {
///     slope: f64,
/// }
///
/// impl Op for LeakyRelu {
///     fn name(&self) -> &'static str {
///         "leaky_relu"
///     }
///
///     // The output has the shape of the input; the backward pass reads the input.
///     fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
///         let [x] = inputs(self.name(), x)?;
///         Ok(Box::new(Kernels { slope: self.slope as f32, spec: Spec { reads_x: true, ..Spec::new(x) } }))
///     }
///
///     // The references process a whole batch. The gradient of an input is added to, since other operations may read the input, too.
///     fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
///         for (y, &x) in b.y.iter_mut().zip(b.x[0]) {
///             *y = if x > 0.0 { x } else { self.slope * x };
///         }
///     }
///
///     fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
///         for ((dx, &dy), &x) in b.dx[0].iter_mut().zip(b.dy).zip(b.x[0]) {
///             *dx += if x > 0.0 { dy } else { self.slope * dy };
///         }
///     }
/// }
///
/// #[derive(Debug)]
/// struct Kernels {
///     slope: f32,
///     spec: Spec,
/// }
///
/// impl PlannedOp for Kernels {
///     fn spec(&self) -> &Spec {
///         &self.spec
///     }
///
///     // The kernels process one sample. The gradient of an input is assigned; it is empty where none is needed.
///     fn forward(&self, _isa: Isa, _phase: usize, b: &mut Forward<'_>) {
///         for (y, &x) in b.y.iter_mut().zip(b.x[0]) {
///             *y = if x > 0.0 { x } else { self.slope * x };
///         }
///     }
///
///     fn backward(&self, _isa: Isa, _phase: usize, b: &mut Backward<'_>) {
///         for ((dx, &dy), &x) in b.dx[0].iter_mut().zip(b.dy).zip(b.x[0]) {
///             *dx = if x > 0.0 { dy } else { self.slope * dy };
///         }
///     }
/// }
///
/// // The kernels agree with the reference, on three samples of twenty rows and four channels.
/// let op = LeakyRelu { slope: 0.25 };
/// let input = Input { shape: Shape::new(20, 4), fill: Fill::Normal };
/// let errors = SingleOp::new(&op, &[input], 3, Isa::best(), 1)?.errors();
/// assert!(errors.forward < 1e-6 && errors.backward_data < 1e-6);
///
/// // In a graph it is used like any other operation. Its gradient is that of the sum of `w * leaky_relu(x)`.
/// let mut graph = Graph::new();
/// let x = graph.input("x", Shape::new(1, 3))?;
/// let w = graph.input("w", Shape::new(1, 3))?;
/// let y = graph.add("leaky", op, &[x])?;
/// let sum = graph.add("sum", WeightedSum, &[y, w])?;
/// let plan = Plan::new(&graph, &PlanOptions::new(1, Work::Train(sum)).keep(Keep::Everything))?;
/// let mut cpu = Cpu::new(plan.into(), Isa::best())?;
/// cpu.prepare(&[], &[]);
/// cpu.run(&[], &mut [], &[&[-2.0, 1.0, 4.0], &[1.0, 1.0, 1.0]], Key::new(1, Stream::Dropout));
/// assert_eq!(cpu.activation(y).unwrap(), [-0.5, 1.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Op: Any + Debug + Send + Sync {
    /// The operation's name in plans, benchmarks and errors: `conv1d`.
    fn name(&self) -> &'static str;

    /// The operation for inputs of shapes `x`: its geometry, its algorithms and its needs are determined here, once.
    ///
    /// # Errors
    /// The operation cannot be applied to such inputs.
    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError>;

    /// What the operation needs for inputs of shapes `x`.
    ///
    /// # Errors
    /// Those of [`Op::plan`].
    fn spec(&self, x: &[Shape]) -> Result<Spec, ShapeError> {
        Ok(self.plan(x)?.spec().clone())
    }

    /// The smallest training batch that the operation accepts for inputs of shapes `x`. More than 1 where a statistic over the batch would
    /// otherwise be computed from a single value.
    fn min_batch(&self, _x: &[Shape]) -> usize {
        1
    }

    /// What replaces the operation in a plan for inference.
    fn for_inference(&self) -> Inference {
        Inference::Same
    }

    /// What replaces the operation in a plan for training in which its parameters do not learn, and a node before it needs a gradient: an
    /// operation with the same parameters and state, which does not change the state and whose backward pass computes the gradients of the
    /// inputs. Where no node before it needs a gradient, [`Op::for_inference`] replaces it.
    fn for_frozen(&self) -> Inference {
        self.for_inference()
    }

    /// Computes the output of a whole batch in double precision, with plain loops that are never optimised.
    fn reference_forward(&self, b: &mut ReferenceForward<'_>);

    /// Computes the gradients of a whole batch in double precision, with plain loops; recomputes whatever it needs from the inputs.
    fn reference_backward(&self, b: &mut ReferenceBackward<'_>);
}

/// An operation for inputs of known shapes: its kernels in single precision.
///
/// Only [`PlannedOp::spec`], [`PlannedOp::forward`] and [`PlannedOp::backward`] are required. An operation without [`PlannedOp::on_device`] runs
/// on the CPU, and a plan for a GPU refuses it.
pub trait PlannedOp: Debug + Send + Sync {
    /// What it needs.
    fn spec(&self) -> &Spec;

    /// The algorithms of the kernels.
    fn algorithms(&self) -> Algorithms {
        Algorithms::default()
    }

    /// Packs `params` into `batch_saved`, once per step and before any pass. In inference it may use the `state`, too.
    fn prepare(&self, _isa: Isa, _params: &[f32], _state: &[f32], _batch_saved: &mut [f32]) {}

    /// Computes phase number `phase` of the forward pass, of one sample or, in a [`Phase::Groups`], of several.
    fn forward(&self, isa: Isa, phase: usize, b: &mut Forward<'_>);

    /// In inference, the length of the pieces (or a multiple of it) into which the output of one sample may be cut, so that several
    /// threads compute one sample. None if the output must be computed in one call.
    fn piece(&self) -> Option<usize> {
        None
    }

    /// Computes phase number `phase` of the backward pass, of one sample or, in a [`Phase::Groups`] or [`Phase::Batch`], of several.
    fn backward(&self, isa: Isa, phase: usize, b: &mut Backward<'_>);

    /// The length of the pieces into which the gradients of the parameters are cut in a [`Phase::Batch`].
    fn gradient_piece(&self) -> usize {
        usize::MAX
    }

    /// Brings the accumulated gradients of the parameters, which the kernels may accumulate in an order of their own, into the order of
    /// the parameters. Called once per step, after the last pass; `scratch` has the length [`Spec::scratch`].
    fn reorder_gradients(&self, _dparams: &mut [f32], _scratch: &mut [f32]) {}

    /// Computes a [`Phase::Merge`]. It must add in the order of the samples, so that the result does not depend on the threads.
    fn merge(&self, _b: &mut Merge<'_>) {}

    /// The kernel launches and the memory of both passes on a GPU. By default there are none.
    fn on_device(&self, _batch: &Batch) -> Passes {
        Passes::default()
    }
}

/// An operation of this crate with what follows from the shapes of its inputs.
#[derive(Clone, Debug)]
pub(crate) struct Planned<O, G> {
    /// The operation.
    pub op: O,
    /// Its geometry: the shape of its input, or the numbers that its kernels need.
    pub geometry: G,
    /// What it needs.
    pub spec: Spec,
}

impl<O, G> Planned<O, G>
where
    Planned<O, G>: PlannedOp + 'static,
{
    /// The planned operation as [`Op::plan`] returns it.
    pub fn boxed(op: O, geometry: G, spec: Spec) -> Result<Box<dyn PlannedOp>, ShapeError> {
        Ok(Box::new(Planned { op, geometry, spec }))
    }
}
