//! add: the sum of two tensors.
//!
//! **Computes** `y[i] = a[i] + b[i]`. **Shapes** `a, b [n, l, c] -> y [n, l, c]`; nothing is broadcast.
//! **Backward** `da[i] = db[i] = dy[i]`. **Saved** nothing. **Cost** one addition and 12 bytes per element.
//! **NaN** a NaN in either input gives a NaN. **Error** one rounding forward; backward is exact. **Source** definition.

use super::case::Case;
use super::device::{Batch, Launch, Operand, Passes};
use super::op::{
    Backward, Forward, Op, Planned, PlannedOp, ReferenceBackward, ReferenceForward, ShapeError, Spec, inputs,
};
use crate::base::Shape;
use crate::simd::{Isa, Kernel, Simd};

/// The op; it has no attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Add;

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [a, b] = inputs(self.name(), x)?;
        if a != b {
            let message = format!("its inputs are {a} and {b}; give it two of the same shape");
            return Err(ShapeError::new(self.name(), message));
        }
        Planned::boxed(*self, a, Spec { in_place: true, ..Spec::new(a) })
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        for (i, y) in b.y.iter_mut().enumerate() {
            *y = b.x[0][i] + b.x[1][i];
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        for (i, &dy) in b.dy.iter().enumerate() {
            b.dx[0][i] += dy;
            b.dx[1][i] += dy;
        }
    }
}

impl PlannedOp for Planned<Add, Shape> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        if !b.x[0].is_empty() {
            b.y.copy_from_slice(b.x[0]);
        }
        isa.run(AddForward { b: b.x[1], y: b.y });
    }

    fn backward(&self, _isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let [da, db] = &mut b.dx;
        if !b.dy.is_empty() && !da.is_empty() {
            da.copy_from_slice(b.dy);
        }
        if !db.is_empty() {
            db.copy_from_slice(if b.dy.is_empty() { da } else { b.dy });
        }
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        let count = batch.n * self.geometry.size();
        let map = |kernel| Launch::over(kernel, count, 4);
        let forward = map("add_forward").with(Operand::X(0)).with(Operand::X(1)).with(Operand::Y).int(count);
        let backward = map("add_backward").with(Operand::Dy).with(Operand::Dx(0)).with(Operand::Dx(1)).int(count);
        Passes {
            in_place: true,
            forward: vec![forward.costs(3 * count, count as u64)],
            backward: vec![backward.costs(3 * count, 0)],
            ..Passes::default()
        }
    }
}

struct AddForward<'a> {
    b: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for AddForward<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        for (y, &b) in self.y.iter_mut().zip(self.b) {
            *y += b;
        }
    }
}

/// The test cases.
pub fn cases() -> Vec<Case> {
    [(1, 1), (1, 3), (7, 17), (592, 64)]
        .into_iter()
        .map(|(l, c)| Case {
            real: l == 592,
            // One rounding of the sum.
            tolerance: 1e-7,
            ..Case::new(format!("n2_l{l}_c{c}"), Add, &[Shape::new(l, c); 2])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_differ_and_single_inputs_are_refused() {
        let error = Add.spec(&[Shape::new(3, 2), Shape::new(2, 3)]).unwrap_err().to_string();
        assert_eq!(error, "add: its inputs are 3 x 2 and 2 x 3; give it two of the same shape");
        let error = Add.spec(&[Shape::new(3, 2)]).unwrap_err().to_string();
        assert_eq!(error, "add: it takes 2 inputs, not 1");
    }
}
