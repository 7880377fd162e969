//! The trait [`PlannedOp`], the kernels of an operation for inputs of known shapes, and the buffers of its passes.

use super::tensors::{Tensors, TensorsMut};
use super::{Algorithms, Pass, ShapeError, Spec};
#[cfg(doc)]
use super::{Op, Phase};
use crate::base::rng::Key;
use crate::ops::device::{Batch, Passes};
use crate::simd::Isa;
use std::fmt::Debug;

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
    pub params: Tensors<'a>,
    /// The operation's state.
    pub state: Tensors<'a>,
    /// See [`Spec::batch_saved`].
    pub batch_saved: &'a [f32],
}

/// The buffers of the backward pass, of one sample or, in a [`Phase::Groups`], of several.
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
    /// The gradients of the parameters, to be added to; no tensors where none are needed.
    pub dparams: TensorsMut<'a>,
    /// What the forward pass kept; a phase may write to it for the next one.
    pub saved: &'a mut [f32],
    /// Scratch memory; its content is unspecified.
    pub scratch: &'a mut [f32],
    /// The operation's parameters.
    pub params: Tensors<'a>,
    /// See [`Spec::batch_saved`].
    pub batch_saved: &'a [f32],
}

/// A piece of the gradient of one parameter tensor, and the buffers of all samples from which it is computed: see [`PlannedOp::batch_gradient`].
pub struct BatchGradient<'a> {
    /// The inputs if [`Spec::reads_x`], else empty.
    pub x: [&'a [f32]; MAX_INPUTS],
    /// The output if [`Spec::reads_y`], else empty.
    pub y: &'a [f32],
    /// The gradient of the output.
    pub dy: &'a [f32],
    /// The number of the tensor.
    pub tensor: usize,
    /// The index in the tensor of the first element of `gradient`.
    pub from: usize,
    /// The piece, to be added to.
    pub gradient: &'a mut [f32],
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
    pub params: Tensors<'a>,
    /// The gradients of the parameters, to be added to; no tensors in the forward pass.
    pub dparams: TensorsMut<'a>,
    /// The operation's state.
    pub state: TensorsMut<'a>,
    /// See [`Spec::batch_saved`].
    pub batch_saved: &'a mut [f32],
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
    fn prepare(&self, _isa: Isa, _params: Tensors<'_>, _state: Tensors<'_>, _batch_saved: &mut [f32]) {}

    /// Computes phase number `phase` of the forward pass, of one sample or, in a [`Phase::Groups`], of several.
    fn forward(&self, isa: Isa, phase: usize, b: &mut Forward<'_>);

    /// In inference, the length of the pieces (or a multiple of it) into which the output of one sample may be cut, so that several
    /// threads compute one sample. None if the output must be computed in one call.
    fn piece(&self) -> Option<usize> {
        None
    }

    /// Computes phase number `phase` of the backward pass, of one sample or, in a [`Phase::Groups`], of several.
    fn backward(&self, isa: Isa, phase: usize, b: &mut Backward<'_>);

    /// Computes a piece of the gradient of a parameter tensor in a [`Phase::Batch`], from all samples in their order.
    fn batch_gradient(&self, _isa: Isa, _b: &mut BatchGradient<'_>) {}

    /// The length of the pieces into which the gradient of each parameter tensor is cut in a [`Phase::Batch`].
    fn gradient_piece(&self) -> usize {
        usize::MAX
    }

    /// Brings the accumulated gradients of the parameters, which the kernels may accumulate in an order of their own, into the order of
    /// the parameters. Called once per step, after the last pass; `scratch` has the length [`Spec::scratch`].
    fn reorder_gradients(&self, _dparams: TensorsMut<'_>, _scratch: &mut [f32]) {}

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
