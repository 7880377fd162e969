//! What an operation needs: its tensors, its memory, its phases.

use crate::base::Shape;
use crate::ops::device::Passes;
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

/// The shapes of the inputs of `op`, if there are `N` of them and none is empty. Most implementations of [`Op::plan`](super::Op::plan) begin with it.
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
    /// many weights that reading them once per sample is slow. How many samples a group has depends on the number of threads, so the result of a
    /// sample must not depend on the group.
    Groups,
    /// Backward, before the gradients of the inputs: the gradients of the parameters are computed once for the whole batch, in pieces
    /// ([`PlannedOp::batch_gradient`](super::PlannedOp::batch_gradient)), each from all samples in their order. For operations with so many parameters that accumulating their
    /// gradients sample by sample is slow.
    Batch,
    /// One call of [`PlannedOp::merge`](super::PlannedOp::merge), when the phase before is done for every sample. It couples the samples of the batch.
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
    /// The trained tensors, in the order in which the operation is given them.
    pub params: Vec<TensorSpec>,
    /// The tensors that are kept from step to step but not trained, in the order in which the operation is given them.
    pub state: Vec<TensorSpec>,
    /// Memory per sample that is kept from the forward to the backward pass.
    pub saved: usize,
    /// Scratch memory of one call, whose content is lost afterwards.
    pub scratch: usize,
    /// Memory per batch that is kept until the end of the step: packed weights written by [`PlannedOp::prepare`](super::PlannedOp::prepare), or statistics written by
    /// [`PlannedOp::merge`](super::PlannedOp::merge).
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

/// What the passes of an operation need on the device of a plan: on the CPU that of its [`Spec`], on a GPU that of its
/// [`Passes`](crate::ops::device::Passes). Lengths are in elements of `f32`; all are explained at [`Spec`].
#[allow(missing_docs, reason = "the fields are those of Spec")]
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    pub saved: usize,
    pub scratch: usize,
    pub batch_saved: usize,
    pub reads_x: bool,
    pub reads_y: bool,
    pub in_place: bool,
    pub forward: &'static [Phase],
    pub backward: &'static [Phase],
}

impl From<&Spec> for Needs {
    fn from(spec: &Spec) -> Needs {
        let &Spec { saved, scratch, batch_saved, reads_x, reads_y, in_place, forward, backward, .. } = spec;
        Needs { saved, scratch, batch_saved, reads_x, reads_y, in_place, forward, backward }
    }
}

impl From<&Passes> for Needs {
    /// A pass is one step for the whole batch, and its scratch memory belongs to the device.
    fn from(passes: &Passes) -> Needs {
        let &Passes { saved, batch_saved, reads_x, reads_y, in_place, .. } = passes;
        let (forward, backward) = (PER_SAMPLE, PER_SAMPLE);
        Needs { saved, scratch: 0, batch_saved, reads_x, reads_y, in_place, forward, backward }
    }
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

    /// The number of elements of the trained tensors; `usize::MAX` if it overflows.
    pub fn params_len(&self) -> usize {
        self.params.iter().fold(0, |sum, t| sum.saturating_add(t.len()))
    }

    /// The number of elements of the other tensors.
    pub fn state_len(&self) -> usize {
        self.state.iter().map(TensorSpec::len).sum()
    }
}
