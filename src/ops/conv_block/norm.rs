//! conv_block with batch norm between convolution and ReLU, in training.
//!
//! The convolution's rows `z` are written once and read once, backward; everything else is computed on pooled rows.
//!
//! - Norm and ReLU keep the order of numbers, or turn it round where the scale is negative: the pool's choice can be made
//!   before the statistics are known. The weights are packed with the sign of their channel's scale, so that it is always
//!   the largest row, and all but the input and weight gradients is of the **signed** `z`.
//! - The norm removes any constant: the bias is left out of `z` and added to the running mean only; its gradient is zero.
//! - The convolution's epilogue leaves mean and sum of squares of each sample, block by block around the mean so far
//!   (Chan's formula).
//!
//! The gradient of `z` overwrites `z`, block by block, see `norm_gradient.rs`. With one input channel the statistics are computed
//! differently, see `mono_norm.rs`.

use super::convolve::Stored;
use super::geometry::{Convolution, Geometry, WeightGradPath};
use super::norm_forward::{Activate, NormForward};
use super::norm_gradient::{GradientSums, NormGradient, TurnRows};
use super::planned::{BIAS, BlockPlan, SCALE, SHIFT, sign};
use super::weight::{self, DenseWeight};
use super::{NORM_PHASES, device};
use crate::base::aligned::round_up;
use crate::ops::BatchNorm;
use crate::ops::batch_norm::{gradient_sums, together};
use crate::ops::device::{Batch, Passes};
use crate::ops::op::{Algorithms, Backward, Forward, Merge, Pass, PlannedOp, Spec, Tensors};
use crate::simd::Isa;
use crate::simd::transform::GROUP;

/// What a sample keeps for the backward pass: numbers of [`Geometry`] rounded up to cache lines, one after the other.
pub struct Saved<'a> {
    /// Signed rows of the convolution, `[l_out, c_out]`.
    pub z: &'a mut [f32],
    /// The largest row of each window, `[cells, c_out]`; empty without pool.
    pub pooled: &'a mut [f32],
    /// Forward: mean of `z` a channel, and the sum of squares around it. Backward: sums of the output's gradient, and of
    /// its products with the deviations.
    pub sums: &'a mut [f32],
    /// The argmax of the pool, `[cells, c_out]`; empty without pool.
    pub argmax: &'a mut [u8],
}

/// The lengths of [`Saved`]'s first three parts and of the last in `f32`.
fn lengths(g: &Geometry) -> [usize; 4] {
    let z = g.l_out * g.c_out;
    let pooled = if g.window > 1 { g.cells() * g.c_out } else { 0 };
    [z, pooled, 2 * g.c_out, pooled.div_ceil(size_of::<f32>())].map(round_up)
}

/// Numbers of [`Saved`].
pub fn saved_len(g: &Geometry) -> usize {
    lengths(g).iter().sum()
}

/// Cuts `saved`.
pub fn saved<'a>(g: &Geometry, saved: &'a mut [f32]) -> Saved<'a> {
    let [z, pooled, sums, _] = lengths(g);
    let (z, rest) = saved.split_at_mut(z);
    let (pooled, rest) = rest.split_at_mut(pooled);
    let (sums, argmax) = rest.split_at_mut(sums);
    let cells = if g.window > 1 { g.cells() * g.c_out } else { 0 };
    let argmax = &mut bytemuck::cast_slice_mut(argmax)[..cells];
    Saved { z: &mut z[..g.l_out * g.c_out], pooled: &mut pooled[..cells], sums: &mut sums[..2 * g.c_out], argmax }
}

/// Rows whose gradient is made at once: a multiple of the rows of a block of either gradient. So many stay in the L2 cache
/// while both are made of them, and what either needs beside them is not read too often.
const BOTH_ROWS: usize = 384;

/// The planned form with batch norm in training.
#[derive(Debug)]
pub struct Normed {
    block: BlockPlan,
    norm: BatchNorm,
    /// The convolution whose rows backward-weight takes.
    sums: Convolution,
}

impl Normed {
    /// The form of `block` with `norm`. For all samples it keeps, after the packed weights, mean, inv_std, and the two terms of the gradient
    /// ([`Channels`]).
    pub fn new(block: BlockPlan, norm: BatchNorm) -> Normed {
        let spec = Spec {
            saved: saved_len(&block.g),
            batch_saved: block.numbers_at + 4 * block.g.c_out,
            reads_y: true,
            forward: NORM_PHASES,
            backward: NORM_PHASES,
            ..block.spec.clone()
        };
        let sums = match block.weights {
            WeightGradPath::Dense(conv) => conv,
            // The gradient of a normalised convolution is dense.
            WeightGradPath::Sparse | WeightGradPath::Mono | WeightGradPath::MonoLong => block.forward,
        };
        Normed { block: BlockPlan { spec, ..block }, norm, sums }
    }

    /// The gradients of input and weights from dense rows. Each block of rows is turned into its gradient once, and serves both gradients while it
    /// is in the caches.
    fn gradients(&self, isa: Isa, b: &mut Backward<'_>) {
        let BlockPlan { g, numbers_at, data, .. } = self.block;
        let saved = saved(&g, b.saved);
        let (terms, scratch) = b.scratch.split_at_mut(round_up(4 * g.c_out));
        let terms = NormGradient::terms(&b.batch_saved[numbers_at..], &b.params[SCALE], terms);
        let gradient = NormGradient { g, dy: b.dy, argmax: saved.argmax, y: b.y, terms };
        let (sums, scratch) = scratch.split_at_mut(weight::sums_len(&self.sums));
        let learns = !b.dparams.is_empty();
        let [dw] = b.dparams.each();
        let mut of_weights = DenseWeight { conv: self.sums, x: b.x[0], dw, sums };
        let mut turned = 0;
        for first in (0..g.l.max(g.l_out)).step_by(BOTH_ROWS) {
            let of_data = data.map_or(0, |conv| (first + conv.rows_read(BOTH_ROWS)).saturating_sub(conv.pad));
            let ready = of_data.max(first + BOTH_ROWS).next_multiple_of(GROUP).min(g.l_out).max(turned);
            let rows = &mut saved.z[turned * g.c_out..ready * g.c_out];
            isa.run(TurnRows { gradient: &gradient, first: turned, rows });
            turned = ready;
            let dz = Stored { x: saved.z, c: g.c_out };
            let until = |end: usize| first.min(end)..(first + BOTH_ROWS).min(end);
            if learns {
                of_weights.add(isa, &dz, until(g.l_out), scratch);
            }
            self.block.backward_data(isa, (&dz, until(g.l)), b.batch_saved, &mut *b.dx[0], scratch);
        }
        if learns {
            of_weights.finish(isa);
        }
    }
}

impl PlannedOp for Normed {
    fn spec(&self) -> &Spec {
        &self.block.spec
    }

    fn algorithms(&self) -> Algorithms {
        self.block.algorithms()
    }

    fn prepare(&self, isa: Isa, params: Tensors<'_>, _state: Tensors<'_>, batch_saved: &mut [f32]) {
        self.block.pack_signed(isa, params, batch_saved);
    }

    /// Convolution, pool and statistics; then the norm.
    fn forward(&self, isa: Isa, phase: usize, b: &mut Forward<'_>) {
        let BlockPlan { g, numbers_at, data_at: [packed, _], .. } = self.block;
        let saved = saved(&g, b.saved);
        if phase == 0 {
            NormForward { g, x: b.x[0], packed: &b.batch_saved[..packed], saved, scratch: b.scratch }.run(isa);
            return;
        }
        let (statistics, norm) = (&b.batch_saved[numbers_at..][..2 * g.c_out], [&b.params[SCALE], &b.params[SHIFT]]);
        let z = if g.window > 1 { saved.pooled } else { saved.z };
        isa.run(Activate { z, statistics, norm, y: b.y, argmax: saved.argmax });
    }

    /// Sums over what the pool chose; then the gradients.
    fn backward(&self, isa: Isa, phase: usize, b: &mut Backward<'_>) {
        if phase != 0 {
            return self.gradients(isa, b);
        }
        let BlockPlan { g, numbers_at, .. } = self.block;
        let saved = saved(&g, b.saved);
        let z = if g.window > 1 { saved.pooled } else { saved.z };
        let mean = &b.batch_saved[numbers_at..][..g.c_out];
        isa.run(GradientSums { dy: b.dy, z, y: b.y, mean, sums: saved.sums });
    }

    fn merge(&self, b: &mut Merge<'_>) {
        Channels::new(&self.block, self.norm, b).of_rows();
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        device::Block::new(&self.block, batch).with_norm(self.norm)
    }
}

/// What the merges share: the op's parameters, and the location of its numbers for all samples.
pub struct Channels<'a, 'b> {
    pub g: Geometry,
    pub norm: BatchNorm,
    /// Where in `batch_saved` `[mean, inv_std, a, b]` begin: the signed rows' statistics, and the terms of their gradient. With one
    /// input channel the folded weights and bias follow.
    pub statistics_at: usize,
    pub merge: &'a mut Merge<'b>,
}

impl<'a, 'b> Channels<'a, 'b> {
    /// Of a block with `norm`.
    pub fn new(block: &BlockPlan, norm: BatchNorm, merge: &'a mut Merge<'b>) -> Channels<'a, 'b> {
        let &BlockPlan { g, numbers_at: statistics_at, .. } = block;
        Channels { g, norm, statistics_at, merge }
    }

    /// From every sample's sums over its rows.
    pub fn of_rows(self) {
        let Channels { g, norm, statistics_at, merge: b } = self;
        let c = g.c_out;
        let [z, pooled, ..] = lengths(&g);
        let m = b.n * g.l_out;
        for j in 0..c {
            let of = |i: usize| {
                let sums = &(b.saved)(i)[z + pooled..];
                (sums[j], sums[c + j])
            };
            let sign = sign(b.params[SCALE][j]);
            match b.pass {
                Pass::Forward => {
                    let (mean, squares) = together(g.l_out, (0..b.n).map(of));
                    b.batch_saved[statistics_at + j] = mean as f32;
                    b.batch_saved[statistics_at + c + j] = norm.inv_std(squares / m as f64);
                    let mean = f64::from(sign) * mean + f64::from(b.params[BIAS][j]);
                    norm.follow(&mut b.state, j, mean, squares / (m as f64 - 1.0).max(1.0));
                }
                Pass::Backward => {
                    let sums = gradient_sums((0..b.n).map(of), b.batch_saved[statistics_at + c + j], m);
                    b.dparams[SCALE][j] += sign * sums.scale;
                    b.dparams[SHIFT][j] += sums.shift;
                    (b.batch_saved[statistics_at + 2 * c + j], b.batch_saved[statistics_at + 3 * c + j]) = sums.terms;
                }
            }
        }
    }
}
