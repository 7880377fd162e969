//! relu.
//!
//! **Computes** `y[i] = max(0, x[i])`. **Shapes** `x [n, l, c] -> y [n, l, c]`.
//! **Backward** `dx[i] = dy[i] if y[i] > 0, else 0`. **Saved** nothing; backward reads `y`.
//! **Cost** no MACs, 8 bytes per element. **NaN** forward, a NaN gives a NaN; its gradient is 0.
//! **Error** exact. **Source** Nair and Hinton, ICML 2010.

use super::case::Case;
use super::device::{Batch, Launch, Operand, Passes};
use super::op::{
    Backward, Forward, Op, Planned, PlannedOp, ReferenceBackward, ReferenceForward, ShapeError, Spec, inputs,
};
use crate::base::Shape;
use crate::simd::{Isa, Kernel, Simd};

/// The op; it has no attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Relu;

impl Op for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [x] = inputs(self.name(), x)?;
        Planned::boxed(*self, x, Spec { reads_y: true, in_place: true, ..Spec::new(x) })
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        for (y, &x) in b.y.iter_mut().zip(b.x[0]) {
            *y = if x > 0.0 || x.is_nan() { x } else { 0.0 };
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        for ((dx, &dy), &x) in b.dx[0].iter_mut().zip(b.dy).zip(b.x[0]) {
            *dx += if x > 0.0 { dy } else { 0.0 };
        }
    }
}

impl PlannedOp for Planned<Relu, Shape> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        isa.run(ReluForward { x: b.x[0], y: b.y });
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let [dx, _] = &mut b.dx;
        if !b.dy.is_empty() && !dx.is_empty() {
            dx.copy_from_slice(b.dy);
        }
        isa.run(ReluBackward { y: b.y, dx });
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        let count = batch.n * self.geometry.size();
        let map = |kernel| Launch::over(kernel, count, 4);
        let forward = map("relu_forward").with(Operand::X(0)).with(Operand::Y).int(count);
        let backward = map("relu_backward").with(Operand::Y).with(Operand::Dy).with(Operand::Dx(0)).int(count);
        Passes {
            reads_y: true,
            in_place: true,
            forward: vec![forward.costs(2 * count, count as u64)],
            backward: vec![backward.costs(3 * count, count as u64).only_for(Operand::Dx(0))],
            ..Passes::default()
        }
    }
}

/// Out of place, or in place if `x` is empty.
struct ReluForward<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

/// Numbers that are copied to a local array in place: a choice between a number and its own place would become a store under
/// a condition, which AVX2 has no vectors for.
const BLOCK: usize = 256;

impl Kernel for ReluForward<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        if !self.x.is_empty() {
            return rectify(self.x, self.y);
        }
        let mut block = [0.0; BLOCK];
        for y in self.y.chunks_mut(BLOCK) {
            let block = &mut block[..y.len()];
            block.copy_from_slice(y);
            rectify(block, y);
        }
    }
}

#[inline(always)]
fn rectify(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = if x <= 0.0 { 0.0 } else { x };
    }
}

struct ReluBackward<'a> {
    y: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for ReluBackward<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        for (dx, &y) in self.dx.iter_mut().zip(self.y) {
            // The sum is there for the store to be without condition, see `BLOCK`.
            *dx = if y > 0.0 { *dx + 0.0 } else { 0.0 };
        }
    }
}

/// Its cases.
pub fn cases() -> Vec<Case> {
    [(1, 1), (1, 3), (7, 17), (592, 64)]
        .into_iter()
        .map(|(l, c)| Case {
            kink: 1e-3,
            real: l == 592,
            tolerance: 0.0,
            ..Case::new(format!("n2_l{l}_c{c}"), Relu, &[Shape::new(l, c)])
        })
        .collect()
}
