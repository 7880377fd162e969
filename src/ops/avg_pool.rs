//! avg_pool: the average over time, which leaves one row whatever the length of the clip.
//!
//! **Computes** `y[j] = 1 / l * sum_r x[r, j]`. **Shapes** `x [n, l, c] -> y [n, 1, c]`.
//! **Backward** `dx[r, j] = dy[j] / l`. **Saved** nothing.
//! **Cost** `l * c` additions, 4 bytes a number. **NaN** one makes its channel's average NaN.
//! **Error** sums of 64 rows, then their sum: below 1e-6 of the mean of `|x|`. **Source** Lin, Chen and Yan, "Network
//! in network", 2013, section 3.2.

use super::case::Case;
use super::device::{Batch, Launch, Operand, Passes};
use super::op::{
    Backward, Forward, Op, Planned, PlannedOp, ReferenceBackward, ReferenceForward, ShapeError, Spec, inputs,
};
use crate::base::Shape;
use crate::simd::{Isa, Kernel, Simd};

/// The op; it has no attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct AvgPool;

impl Op for AvgPool {
    fn name(&self) -> &'static str {
        "avg_pool"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [x] = inputs(self.name(), x)?;
        Planned::boxed(*self, x, Spec { scratch: x.c, ..Spec::new(Shape::new(1, x.c)) })
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        let Shape { l, c } = b.shapes[0];
        for s in 0..b.n {
            for j in 0..c {
                let sum: f64 = (0..l).map(|r| b.x[0][(s * l + r) * c + j]).sum();
                b.y[s * c + j] = sum / l as f64;
            }
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        let Shape { l, c } = b.shapes[0];
        for s in 0..b.n {
            for r in 0..l {
                for j in 0..c {
                    b.dx[0][(s * l + r) * c + j] += b.dy[s * c + j] / l as f64;
                }
            }
        }
    }
}

impl PlannedOp for Planned<AvgPool, Shape> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        isa.run(Average { x: b.x[0], l: self.geometry.l, sums: b.scratch, y: b.y });
    }

    fn backward(&self, _isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let l = self.geometry.l as f32;
        let mut rows = b.dx[0].chunks_exact_mut(b.dy.len());
        if let Some(first) = rows.next() {
            for (dx, &dy) in first.iter_mut().zip(b.dy) {
                *dx = dy / l;
            }
            rows.for_each(|row| row.copy_from_slice(first));
        }
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        let (n, Shape { l, c }) = (batch.n, self.geometry);
        let count = n * l * c;
        let sizes = |launch: Launch| launch.int(n).int(l).int(c).costs(count + n * c, count as u64);
        let forward = Launch::new("avg_pool_forward", n * c.div_ceil(32), 256).with(Operand::X(0)).with(Operand::Y);
        let backward = Launch::over("avg_pool_backward", count, 4).with(Operand::Dy).with(Operand::Dx(0));
        Passes {
            forward: vec![sizes(forward)],
            backward: vec![sizes(backward).only_for(Operand::Dx(0))],
            ..Passes::default()
        }
    }
}

/// Rows whose sum is taken before it joins the total.
const BLOCK_ROWS: usize = 64;

struct Average<'a> {
    x: &'a [f32],
    l: usize,
    sums: &'a mut [f32],
    y: &'a mut [f32],
}

impl Kernel for Average<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let c = self.y.len();
        self.y.fill(0.0);
        for block in self.x.chunks(BLOCK_ROWS * c) {
            self.sums.fill(0.0);
            for row in block.chunks_exact(c) {
                for (sum, &x) in self.sums.iter_mut().zip(row) {
                    *sum += x;
                }
            }
            for (y, &sum) in self.y.iter_mut().zip(&*self.sums) {
                *y += sum;
            }
        }
        for y in self.y {
            *y /= self.l as f32;
        }
    }
}

/// Its cases.
pub fn cases() -> Vec<Case> {
    [(1, 1), (1, 3), (7, 17), (64, 16), (65, 8), (130, 15), (592, 64)]
        .into_iter()
        .map(|(l, c)| Case { real: l == 592, ..Case::new(format!("n2_l{l}_c{c}"), AvgPool, &[Shape::new(l, c)]) })
        .collect()
}
