//! conv_block without norm, or with the norm's running statistics folded into the weights: one pass over the rows each way.
//!
//! **Saved** the argmax of each window, one byte each; nothing without pool. **For all samples** the packed weights; with a norm, the folded bias
//! `[c_out]` after them.

use super::forward;
use super::geometry::WeightGradPath;
use super::gradient::Unpooled;
use super::planned::{BIAS, BlockPlan, WEIGHT};
use super::{device, pooled_weight, spread, weight};
use crate::ops::device::{Batch, Passes};
use crate::ops::op::{Algorithms, Backward, Forward, PlannedOp, Spec, Tensors, TensorsMut};
use crate::simd::Isa;

/// The planned form.
#[derive(Debug)]
pub struct Plain {
    block: BlockPlan,
    /// What is added to the running variance of the norm, if there is one.
    eps: Option<f64>,
}

impl Plain {
    /// The form of `block` without norm, or with the running statistics of one.
    pub fn new(block: BlockPlan, eps: Option<f64>) -> Plain {
        let g = &block.g;
        let argmax = if g.window > 1 && block.learns { (g.cells() * g.c_out).div_ceil(size_of::<f32>()) } else { 0 };
        let bias = if eps.is_some() { g.c_out } else { 0 };
        let spec = Spec {
            saved: argmax,
            batch_saved: block.numbers_at + bias,
            // With a norm, only the gradients of the parameters would read the input, and the block has none.
            reads_x: eps.is_none(),
            reads_y: g.window == 1,
            ..block.spec.clone()
        };
        Plain { block: BlockPlan { spec, ..block }, eps }
    }

    /// Whether so few windows have a non-zero gradient that backward-data is computed from the sparse gradient.
    fn spreads(&self, argmax: &[u8]) -> bool {
        let (below, window) = (self.block.spread_below, self.block.g.window);
        let nonzero = || argmax.iter().map(|&index| u32::from(usize::from(index) < window)).sum::<u32>();
        below >= 1.0 || (below > 0.0 && f64::from(nonzero()) < below * argmax.len() as f64)
    }
}

impl PlannedOp for Plain {
    fn spec(&self) -> &Spec {
        &self.block.spec
    }

    fn algorithms(&self) -> Algorithms {
        self.block.algorithms()
    }

    fn prepare(&self, isa: Isa, params: Tensors<'_>, state: Tensors<'_>, batch_saved: &mut [f32]) {
        let Some(eps) = self.eps else {
            return self.block.pack(isa, &params[WEIGHT], (|_| 1.0, |_| 1.0), batch_saved);
        };
        let ([weight, bias, scale, shift], [mean, variance]) = (params.each(), state.each());
        // By which the norm multiplies output channel `o` of the convolution.
        let factor = |o: usize| scale[o] / (variance[o] + eps as f32).sqrt();
        self.block.pack(isa, weight, (factor, factor), batch_saved);
        for (o, folded) in batch_saved[self.block.numbers_at..].iter_mut().enumerate() {
            *folded = (bias[o] - mean[o]) * factor(o) + shift[o];
        }
    }

    fn piece(&self) -> Option<usize> {
        let BlockPlan { g, forward, learns, .. } = &self.block;
        let cells = forward.block_rows() / g.window;
        (!learns && g.cells() > cells).then_some(cells * g.c_out)
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        let BlockPlan { g, learns, numbers_at, data_at: [packed, _], .. } = self.block;
        let argmax_len = if g.window > 1 && learns { b.y.len() } else { 0 };
        let argmax = &mut bytemuck::cast_slice_mut(b.saved)[..argmax_len];
        let bias = if self.eps.is_some() { &b.batch_saved[numbers_at..] } else { &b.params[BIAS] };
        let (packed, cell) = (&b.batch_saved[..packed], b.from / g.c_out);
        forward::Forward { g, x: b.x[0], packed, bias, cell, y: b.y, argmax, scratch: b.scratch }.run(isa);
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let BlockPlan { g, data_at: [_, sparse_at], .. } = self.block;
        let argmax_len = if g.window > 1 { b.dy.len() } else { 0 };
        debug_assert!(b.dparams.is_empty() || self.eps.is_none(), "a frozen block has no such gradients");
        let dz = Unpooled { g, dy: b.dy, argmax: &bytemuck::cast_slice(b.saved)[..argmax_len], y: b.y };
        if !b.dparams.is_empty() {
            let [dw, db] = b.dparams.each();
            let (x, dy, argmax, scratch) = (b.x[0], dz.dy, dz.argmax, &mut *b.scratch);
            match self.block.weights {
                WeightGradPath::Sparse | WeightGradPath::MonoLong => {
                    pooled_weight::PooledWeight { g, x, dy, argmax, dw, db, scratch }.sparse(isa);
                }
                WeightGradPath::Mono => pooled_weight::PooledWeight { g, x, dy, argmax, dw, db, scratch }.mono(isa),
                WeightGradPath::Dense(conv) => {
                    isa.run(weight::BiasSums { dz: &dz, db });
                    let (sums, scratch) = scratch.split_at_mut(weight::sums_len(&conv));
                    let mut of_weights = weight::DenseWeight { conv, x, dw, sums };
                    of_weights.add(isa, &dz, 0..conv.rows_out, scratch);
                    of_weights.finish(isa);
                }
            }
        }
        let (dx, scratch) = (&mut *b.dx[0], &mut *b.scratch);
        if dx.is_empty() || !self.spreads(dz.argmax) {
            return self.block.backward_data(isa, (&dz, 0..g.l), b.batch_saved, dx, scratch);
        }
        let packed = &b.batch_saved[sparse_at..][..g.weights()];
        spread::Spread { g, dy: dz.dy, argmax: dz.argmax, packed, dx, scratch }.run(isa);
    }

    fn reorder_gradients(&self, dparams: TensorsMut<'_>, scratch: &mut [f32]) {
        self.block.reorder_gradients(dparams, scratch);
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        let block = device::Block::new(&self.block, batch);
        match self.eps {
            None => block.plain(self.block.learns),
            Some(eps) => block.running(eps),
        }
    }
}
