//! weighted_sum: the sum of a tensor's numbers, each times a weight that is an input too. It turns any tensor
//! into a loss whose gradient is known: `dx = w`.
//!
//! **Computes** `y = sum_i x[i] * w[i]`. **Shapes** `x, w [n, l, c] -> y [n, 1, 1]`.
//! **Backward** `dx[i] = w[i] * dy`, `dw[i] = x[i] * dy`. **Saved** nothing; backward reads both inputs.
//! **Cost** `l * c` MACs, 8 bytes per element. **NaN** a NaN in either input makes the sum NaN.
//! **Error** products rounded to `f32`, summed 64 to a lane and then in `f64`: below 1e-6 of `sum |x w|`; the same bits
//! with every instruction set. **Source** definition.

use super::case::Case;
use super::device::{Batch, Launch, Operand, Passes};
use super::op::{
    Backward, Forward, Op, Planned, PlannedOp, ReferenceBackward, ReferenceForward, ShapeError, Spec, inputs,
};
use crate::base::Shape;
use crate::simd::{Isa, Kernel, Simd};

/// The op; it has no attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedSum;

impl Op for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted_sum"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [x, w] = inputs(self.name(), x)?;
        if x != w {
            let message = format!("its input is {x} and its weights are {w}; give one weight a number");
            return Err(ShapeError::new(self.name(), message));
        }
        Planned::boxed(*self, x, Spec { reads_x: true, macs: x.size() as u64, ..Spec::new(Shape::new(1, 1)) })
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        let size = b.shapes[0].size();
        for (s, y) in b.y.iter_mut().enumerate() {
            for i in s * size..(s + 1) * size {
                *y += b.x[0][i] * b.x[1][i];
            }
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        let size = b.shapes[0].size();
        for (s, &dy) in b.dy.iter().enumerate() {
            for i in s * size..(s + 1) * size {
                b.dx[0][i] += b.x[1][i] * dy;
                b.dx[1][i] += b.x[0][i] * dy;
            }
        }
    }
}

impl PlannedOp for Planned<WeightedSum, Shape> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        isa.run(Dot { x: b.x[0], w: b.x[1], sum: &mut b.y[0] });
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let dy = b.dy[0];
        let [dx, dw] = &mut b.dx;
        isa.run(Scale { from: b.x[1], by: dy, to: dx });
        isa.run(Scale { from: b.x[0], by: dy, to: dw });
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        let (n, size) = (batch.n, self.geometry.size());
        let forward = Launch::new("weighted_sum_forward", n, 256)
            .with(Operand::X(0))
            .with(Operand::X(1))
            .with(Operand::Y)
            .int(size)
            .costs(2 * n * size + n, 2 * (n * size) as u64);
        let backward = Launch::over("weighted_sum_backward", n * size, 1)
            .with(Operand::X(0))
            .with(Operand::X(1))
            .with(Operand::Dy)
            .with(Operand::Dx(0))
            .with(Operand::Dx(1))
            .int(n)
            .int(size)
            .costs(4 * n * size + n, 2 * (n * size) as u64);
        Passes { reads_x: true, forward: vec![forward], backward: vec![backward], ..Passes::default() }
    }
}

/// Partial sums kept side by side: a multiple of every set's lanes, so that all sets add in the same order.
const LANES: usize = 16;

/// Numbers summed in `f32` before they join the total, 64 to a partial sum.
const BLOCK: usize = 64 * LANES;

struct Dot<'a> {
    x: &'a [f32],
    w: &'a [f32],
    sum: &'a mut f32,
}

impl Kernel for Dot<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let mut total = 0.0f64;
        for (x, w) in self.x.chunks(BLOCK).zip(self.w.chunks(BLOCK)) {
            let mut sums = [0.0f32; LANES];
            let (x, x_rest) = x.as_chunks::<LANES>();
            let (w, w_rest) = w.as_chunks::<LANES>();
            for (x, w) in x.iter().zip(w) {
                for i in 0..LANES {
                    sums[i] += x[i] * w[i];
                }
            }
            for (sum, (x, w)) in sums.iter_mut().zip(x_rest.iter().zip(w_rest)) {
                *sum += x * w;
            }
            total += sums.into_iter().map(f64::from).sum::<f64>();
        }
        *self.sum = total as f32;
    }
}

struct Scale<'a> {
    from: &'a [f32],
    by: f32,
    to: &'a mut [f32],
}

impl Kernel for Scale<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        for (to, &from) in self.to.iter_mut().zip(self.from) {
            *to = from * self.by;
        }
    }
}

/// Its cases.
pub fn cases() -> Vec<Case> {
    [(1, 1), (1, 3), (7, 17), (65, 16), (592, 64)]
        .into_iter()
        .map(|(l, c)| Case {
            real: l == 592,
            ..Case::new(format!("n2_l{l}_c{c}"), WeightedSum, &[Shape::new(l, c); 2])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_gives_the_same_bits_and_close_to_the_exact_sum() {
        let case = Case::new("sum", WeightedSum, &[Shape::new(700, 3); 2]);
        let [x, w] = [0, 1].map(|i| case.input(i)[..2100].iter().map(|&v| v as f32).collect::<Vec<f32>>());
        let exact: f64 = x.iter().zip(&w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
        let sums: Vec<f32> = Isa::all()
            .into_iter()
            .map(|isa| {
                let mut sum = f32::NAN;
                isa.run(Dot { x: &x, w: &w, sum: &mut sum });
                sum
            })
            .collect();
        assert!(sums.iter().all(|s| s.to_bits() == sums[0].to_bits()), "{sums:?}");
        assert!((f64::from(sums[0]) - exact).abs() < 1e-5 * exact.abs().max(1.0), "{sums:?} is not {exact}");
    }
}
