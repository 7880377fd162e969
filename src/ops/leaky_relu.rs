//! leaky_relu: a ReLU that multiplies negative numbers by a slope instead of setting them to zero.
//!
//! **Computes** `y[i] = x[i]` if `x[i] > 0`, else `slope * x[i]`. **Shapes** `x [n, l, c] -> y [n, l, c]`.
//! **Backward** `dx[i] = dy[i]` if `y[i] > 0`, else `slope * dy[i]`; `y` has the sign of `x`, because the slope is not negative.
//! **Saved** nothing; backward reads `y`. **Cost** no MACs, 8 bytes per element.
//! **NaN** forward, a NaN gives a NaN; its gradient is that of a negative number. **Error** one rounding.
//! **Source** Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML 2013.

use super::case::Case;
use super::device::{Batch, Launch, Operand, Passes};
use super::op::{
    Backward, Forward, Op, Planned, PlannedOp, ReferenceBackward, ReferenceForward, ShapeError, Spec, inputs,
};
use crate::base::Shape;
use crate::simd::{Isa, Kernel, Simd};

/// The op.
#[derive(Clone, Copy, Debug)]
pub struct LeakyRelu {
    /// By which numbers that are not positive are multiplied: finite, at least 0.
    pub slope: f32,
}

impl Op for LeakyRelu {
    fn name(&self) -> &'static str {
        "leaky_relu"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [x] = inputs(self.name(), x)?;
        if !(self.slope >= 0.0 && self.slope.is_finite()) {
            let message = format!("slope is {}; it must be finite and at least 0, as 0.01", self.slope);
            return Err(ShapeError::new(self.name(), message));
        }
        Planned::boxed(*self, x, Spec { reads_y: true, in_place: true, ..Spec::new(x) })
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        for (y, &x) in b.y.iter_mut().zip(b.x[0]) {
            *y = if x > 0.0 { x } else { f64::from(self.slope) * x };
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        for ((dx, &dy), &x) in b.dx[0].iter_mut().zip(b.dy).zip(b.x[0]) {
            *dx += if x > 0.0 { dy } else { f64::from(self.slope) * dy };
        }
    }
}

impl PlannedOp for Planned<LeakyRelu, Shape> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        if !b.x[0].is_empty() {
            b.y.copy_from_slice(b.x[0]);
        }
        isa.run(LeakyForward { slope: self.op.slope, y: b.y });
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let [dx, _] = &mut b.dx;
        if !b.dy.is_empty() && !dx.is_empty() {
            dx.copy_from_slice(b.dy);
        }
        isa.run(LeakyBackward { slope: self.op.slope, y: b.y, dx });
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        let count = batch.n * self.geometry.size();
        let map = |kernel| Launch::over(kernel, count, 4);
        let sizes = |launch: Launch| launch.float(self.op.slope).int(count);
        let forward = sizes(map("leaky_relu_forward").with(Operand::X(0)).with(Operand::Y));
        let backward = sizes(map("leaky_relu_backward").with(Operand::Y).with(Operand::Dy).with(Operand::Dx(0)));
        Passes {
            reads_y: true,
            in_place: true,
            forward: vec![forward.costs(2 * count, 2 * count as u64)],
            backward: vec![backward.costs(3 * count, 2 * count as u64).only_for(Operand::Dx(0))],
            ..Passes::default()
        }
    }
}

struct LeakyForward<'a> {
    slope: f32,
    y: &'a mut [f32],
}

impl Kernel for LeakyForward<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        for y in self.y {
            // Both products are computed, so that the choice is a vector instruction.
            *y *= if *y > 0.0 { 1.0 } else { self.slope };
        }
    }
}

struct LeakyBackward<'a> {
    slope: f32,
    y: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for LeakyBackward<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        for (dx, &y) in self.dx.iter_mut().zip(self.y) {
            *dx *= if y > 0.0 { 1.0 } else { self.slope };
        }
    }
}

/// Its cases.
pub fn cases() -> Vec<Case> {
    [(1, 1, 0.01), (1, 3, 0.0), (7, 17, 0.3), (33, 8, 1.0), (592, 64, 0.01)]
        .into_iter()
        .map(|(l, c, slope)| Case {
            kink: 1e-3,
            real: l == 592,
            // One rounding of the product.
            tolerance: 1e-7,
            ..Case::new(format!("n2_l{l}_c{c}_s{slope}"), LeakyRelu { slope }, &[Shape::new(l, c)])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_slope_and_one_that_is_no_number_are_refused() {
        for slope in [-0.1, f32::NAN, f32::INFINITY] {
            let error = LeakyRelu { slope }.spec(&[Shape::new(2, 2)]).unwrap_err().to_string();
            assert!(error.ends_with("it must be finite and at least 0, as 0.01"), "{error}");
        }
    }
}
