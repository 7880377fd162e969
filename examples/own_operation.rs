//! Defines an operation outside the library, checks its gradient, and trains a network that contains it.
//!
//! `cargo run --release --example own_operation`
//!
//! An operation implements [`Op`]: its shape rule, and a reference in double precision. For inputs of known shapes it is a [`PlannedOp`], which has
//! the two passes in single precision. On a GPU a plan refuses it, since it has no launches. The gradient check compares the reference's backward pass with central differences of its forward pass.

use stapes::ops::op::{Backward, Forward, PlannedOp, ReferenceBackward, ReferenceForward, Spec};
use stapes::prelude::*;
use stapes::simd::Isa;
use stapes::train::gradcheck::{GradientCheck, check_model};

/// Leaky ReLU: `y = x` where `x > 0`, else `slope * x`.
#[derive(Clone, Copy, Debug)]
struct LeakyRelu {
    slope: f32,
}

impl Op for LeakyRelu {
    fn name(&self) -> &'static str {
        "leaky_relu"
    }

    /// The output has the shape of the input, and the backward pass reads the input.
    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [x] = stapes::ops::op::inputs(self.name(), x)?;
        Ok(Box::new(PlannedLeakyRelu { slope: self.slope, spec: Spec { reads_x: true, ..Spec::new(x) } }))
    }

    /// Plain loops over the whole batch: what the fast passes are compared with.
    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        for (y, &x) in b.y.iter_mut().zip(b.x[0]) {
            *y = if x > 0.0 { x } else { f64::from(self.slope) * x };
        }
    }

    /// Gradients of inputs are added to what is there.
    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        for ((dx, &dy), &x) in b.dx[0].iter_mut().zip(b.dy).zip(b.x[0]) {
            *dx += if x > 0.0 { dy } else { f64::from(self.slope) * dy };
        }
    }
}

/// Leaky ReLU for an input of known shape.
#[derive(Debug)]
struct PlannedLeakyRelu {
    slope: f32,
    spec: Spec,
}

impl PlannedOp for PlannedLeakyRelu {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    /// One sample forward.
    fn forward(&self, _isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        for (y, &x) in b.y.iter_mut().zip(b.x[0]) {
            *y = if x > 0.0 { x } else { self.slope * x };
        }
    }

    /// One sample backward: the gradient of the input is assigned. It is empty where nobody needs it.
    fn backward(&self, _isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        for ((dx, &dy), &x) in b.dx[0].iter_mut().zip(b.dy).zip(b.x[0]) {
            *dx = if x > 0.0 { dy } else { self.slope * dy };
        }
    }
}

/// Inputs of a clip: a ramp that rises or falls, the class being which.
fn ramps(n: usize) -> (Vec<f32>, Vec<f32>) {
    let labels: Vec<f32> = (0..n).map(|i| (i % 2) as f32).collect();
    let ramp = |(i, &label): (usize, &f32)| {
        let slope = (1.0 - 2.0 * label) * (1.0 + i as f32 / n as f32);
        (0..32).map(move |t| slope * (t as f32 / 32.0 - 0.5)).collect::<Vec<f32>>()
    };
    (labels.iter().enumerate().flat_map(ramp).collect(), labels)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut graph = Graph::new();
    let input = graph.input("input", Shape::new(32, 1))?;
    let labels = graph.input("labels", Shape::new(1, 1))?;
    let h = graph.add("conv1", Conv1d::new(4, 5), &[input])?;
    let h = graph.add("leaky1", LeakyRelu { slope: 0.1 }, &[h])?;
    let logits = graph.add("fc1", Linear { out: 2, bias: true }, &[h])?;
    let loss = graph.add("loss", SoftmaxCrossEntropy::default(), &[logits, labels])?;
    let model = Model::new(graph, logits, loss)?;

    println!("tensor        elements  largest gradient  relative error");
    for check in check_model(&model, 4, 20, 1) {
        let GradientCheck { tensor, elements, largest, error, .. } = &check;
        println!("{tensor:<12}  {elements:8}  {largest:16.2e}  {error:14.1e}");
        if !check.agrees(1e-5) {
            return Err(format!("the gradient of {tensor} is wrong").into());
        }
    }

    let adam = AdamSettings { lr: 1e-2, ..AdamSettings::default() };
    let mut trainer = Trainer::builder(model).batch(20).adam(adam).build()?;
    let (inputs, labels) = ramps(20);
    let first = trainer.step(&inputs, &labels)?;
    let last = (0..50).try_fold(first, |_, _| trainer.step(&inputs, &labels))?;
    println!("\nloss {:.4} before the first step, {:.4} after 50", first.loss, last.loss);
    if last.loss < first.loss { Ok(()) } else { Err("the loss did not fall".into()) }
}
