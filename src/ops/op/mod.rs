//! The traits [`Op`], an operation's shape rule and its reference in double precision, and [`PlannedOp`], its kernels.
//!
//! An operation is declared without shapes (`Conv1d { c_out: 32, k: 5, .. }`). For the shapes of its inputs, [`Op::plan`] returns
//! a [`PlannedOp`], whose [`Spec`] has everything that the planner needs. The executors then call its passes with the buffers that the planner has allocated.
//! Building a graph or a plan may fail; a pass may not.

mod choice;
mod planned;
mod spec;
mod tensors;

pub use choice::{Algorithms, ConvChoice};
pub(crate) use planned::Planned;
pub use planned::{Backward, BatchGradient, Forward, MAX_INPUTS, Merge, PlannedOp};
pub use spec::{
    Layout, Needs, PER_BATCH, PER_GROUP, PER_SAMPLE, Pass, Phase, Role, ShapeError, Spec, TensorSpec, inputs,
};
pub use tensors::{TensorRanges, Tensors, TensorsMut};

use crate::base::{Shape, rng::Key};
use std::any::Any;
use std::fmt::Debug;

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

/// The buffers of the forward reference: a whole batch in double precision.
pub struct ReferenceForward<'a> {
    /// The number of samples.
    pub n: usize,
    /// The shapes of the inputs.
    pub shapes: &'a [Shape],
    /// The inputs, `[n, l, c]` each.
    pub x: &'a [&'a [f64]],
    /// The operation's parameters.
    pub params: Tensors<'a, f64>,
    /// The operation's state.
    pub state: TensorsMut<'a, f64>,
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
    pub params: Tensors<'a, f64>,
    /// The operation's state after the forward pass. A reference has no `saved` memory.
    pub state: Tensors<'a, f64>,
    /// The key of the random numbers of this step and node.
    pub draw: Key,
    /// The gradient of the output.
    pub dy: &'a [f64],
    /// The gradients of the inputs, to be added to.
    pub dx: &'a mut [Vec<f64>],
    /// The gradients of the parameters, to be added to.
    pub dparams: TensorsMut<'a, f64>,
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
