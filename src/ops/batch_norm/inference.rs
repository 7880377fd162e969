//! batch_norm in inference: with the running statistics, a map of each number on its own.
//!
//! **Computes** `y = w[j] * xhat + b[j]`, `xhat = (x - running_mean[j]) / sqrt(running_var[j] + eps)`.
//! **Shapes**, parameters and state are [`super::BatchNorm`]'s.
//! **Backward** `db[j] = sum dy`, `dw[j] = sum dy * xhat`, `dx = w[j] * dy / sqrt(running_var[j] + eps)`.
//! **Saved** mean and inverse deviation a channel; backward reads the input.
//! **Cost** a read and a write of the input each pass, and for the parameters' gradients two more reads.
//! **NaN** stays where it is. **Error** below 1e-6. **Source** Ioffe and Szegedy, ICML 2015, algorithm 2.

use super::cpu::{Affine, GradientSums};
use super::{Over, device, spec};
use crate::base::Shape;
use crate::ops::device::{Batch, Passes};
use crate::ops::op::{
    Backward, Forward, Op, Planned, PlannedOp, ReferenceBackward, ReferenceForward, ShapeError, Spec,
};
use crate::simd::Isa;

/// Batch norm when nothing is learned.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormInference {
    /// What shares a mean and a variance.
    pub over: Over,
    /// Added to the variance; above 0.
    pub eps: f64,
}

impl Op for BatchNormInference {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let spec = spec(self.name(), self.over, self.eps, x)?;
        Planned::boxed(*self, self.over.view(x[0]), spec)
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        let Shape { c, .. } = self.over.view(b.shapes[0]);
        for (i, y) in b.y.iter_mut().enumerate() {
            let j = i % c;
            let xhat = (b.x[0][i] - b.state[0][j]) / (b.state[1][j] + self.eps).sqrt();
            *y = b.params[0][j] * xhat + b.params[1][j];
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        let Shape { c, .. } = self.over.view(b.shapes[0]);
        for (i, &dy) in b.dy.iter().enumerate() {
            let j = i % c;
            let std = (b.state[1][j] + self.eps).sqrt();
            b.dx[0][i] += b.params[0][j] * dy / std;
            b.dparams[0][j] += dy * (b.x[0][i] - b.state[0][j]) / std;
            b.dparams[1][j] += dy;
        }
    }
}

impl PlannedOp for Planned<BatchNormInference, Shape> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        let Shape { l, c } = self.geometry;
        let (mean, inv_std) = b.saved.split_at_mut(c);
        let [running_mean, running_var] = b.state.each();
        mean.copy_from_slice(running_mean);
        for (inv_std, &var) in inv_std.iter_mut().zip(running_var) {
            *inv_std = (1.0 / (f64::from(var) + self.op.eps).sqrt()) as f32;
        }
        let [weight, bias] = b.params.each();
        isa.run(Affine { x: b.x[0], l, mean, inv_std, weight, bias, y: b.y, scratch: b.scratch });
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let Shape { l, c } = self.geometry;
        let (mean, inv_std) = b.saved.split_at(c);
        if !b.dparams.is_empty() {
            let (sums, scratch) = b.scratch.split_at_mut(2 * c);
            let (dy_sum, product_sum) = sums.split_at_mut(c);
            isa.run(GradientSums { x: b.x[0], dy: b.dy, l, mean, dy_sum, product_sum, scratch });
            let [dw, db] = b.dparams.each();
            for j in 0..c {
                dw[j] += product_sum[j] * inv_std[j];
                db[j] += dy_sum[j];
            }
        }
        let weight = b.params.get(0);
        for (dx, dy) in b.dx[0].chunks_exact_mut(c).zip(b.dy.chunks_exact(c)) {
            for (j, (dx, &dy)) in dx.iter_mut().zip(dy).enumerate() {
                *dx = weight[j] * inv_std[j] * dy;
            }
        }
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        device::inference(self.geometry, self.op.eps, batch.n)
    }
}
