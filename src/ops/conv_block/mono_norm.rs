//! conv_block with batch norm and one input channel in training: the first layer of a network.
//!
//! Every row of the convolution is a sum of `k` samples, so that its statistics follow from those of the samples: with
//! `X[t] = sum over l of x[l + t]` and `R[t, u] = sum over l of x[l + t] x[l + u]` (`x[stride l + t]` with a stride, see `moments.rs`), the mean
//! is `sum over t of w[t] X[t] / m` and the mean square `sum over t, u of w[t] w[u] R[t, u] / m`. They are known before the convolution, which
//! is then computed once, with the norm folded into its weights; its rows are never stored.
//!
//! Backward needs one sparse sum, that of the block without norm: `S[t] = sum over cells of dy x[chosen + t]`, and `G`, the sum of
//! `dy`. From them `sum of dy (z - mean) = sum over t of w[t] S[t] - mean G`, and
//! `dw[t] = scale inv_std (S[t] - a X[t] - b (sum over u of w[u] R[t, u] - mean X[t]))` with `a` and `b` as in batch_norm.
//!
//! This form keeps the samples of a window in registers. `mono_long.rs` is that of more taps, or of a stride; both share the merges.
//!
//! **Error** moments and what is made of them are in double precision: a mean far from zero costs nothing.

use super::geometry::{Geometry, MOST_MONO_TAPS};
use super::moments::{Moments, Observe, moments_len};
use super::norm::Channels;
use super::norm_gradient::{NormGradient, RecomputedRows, recomputed_scratch};
use super::planned::{BIAS, BlockPlan, SCALE, SHIFT, WEIGHT, sign};
use super::{NORM_PHASES, device, forward, pooled_weight};
use crate::base::aligned::round_up;
use crate::ops::BatchNorm;
use crate::ops::batch_norm::gradient_sums;
use crate::ops::device::{Batch, Passes};
use crate::ops::op::{Algorithms, Backward, Forward, Merge, Pass, PlannedOp, Spec, Tensors};
use crate::simd::Isa;

/// The offsets in a sample's saved memory of the moments, the sparse sums `[k + 1, c_out]` and the argmax, and its length.
fn offsets(g: &Geometry) -> [usize; 4] {
    let sums = round_up(moments_len(g.k));
    let argmax_at = sums + round_up((g.k + 1) * g.c_out);
    [0, sums, argmax_at, argmax_at + round_up((g.cells() * g.c_out).div_ceil(size_of::<f32>()))]
}

/// The length of a sample's saved memory.
pub fn saved_len(g: &Geometry) -> usize {
    offsets(g)[3]
}

/// The sparse sums and the argmax in a sample's saved memory.
pub fn saved<'a>(g: &Geometry, saved: &'a mut [f32]) -> (&'a mut [f32], &'a mut [u8]) {
    let [_, sums, argmax_at, _] = offsets(g);
    let (before, argmax) = saved.split_at_mut(argmax_at);
    let argmax = &mut bytemuck::cast_slice_mut(argmax)[..g.cells() * g.c_out];
    (&mut before[sums..][..(g.k + 1) * g.c_out], argmax)
}

/// The planned form with batch norm and one input channel in training.
#[derive(Debug)]
pub struct MonoNormed {
    block: BlockPlan,
    norm: BatchNorm,
}

impl MonoNormed {
    /// The form of `block` with `norm`. For all samples it keeps, after the packed weights, mean, inv_std, the two terms of the gradient
    /// ([`Channels`]), and the weights and bias with the norm in them.
    pub fn new(block: BlockPlan, norm: BatchNorm) -> MonoNormed {
        let g = &block.g;
        let spec = Spec {
            saved: saved_len(g),
            batch_saved: block.numbers_at + 4 * g.c_out + folded_len(g),
            reads_y: g.window == 1,
            forward: NORM_PHASES,
            backward: NORM_PHASES,
            ..block.spec.clone()
        };
        MonoNormed { block: BlockPlan { spec, ..block }, norm }
    }
}

impl PlannedOp for MonoNormed {
    fn spec(&self) -> &Spec {
        &self.block.spec
    }

    fn algorithms(&self) -> Algorithms {
        self.block.algorithms()
    }

    fn prepare(&self, isa: Isa, params: Tensors<'_>, _state: Tensors<'_>, batch_saved: &mut [f32]) {
        self.block.pack_signed(isa, params, batch_saved);
    }

    /// Moments; then the convolution with the norm in its weights.
    fn forward(&self, isa: Isa, phase: usize, b: &mut Forward<'_>) {
        let BlockPlan { g, numbers_at, .. } = self.block;
        if phase == 0 {
            Observe { g, x: b.x[0], saved: b.saved, scratch: b.scratch }.run(isa);
            return;
        }
        let (packed, bias) = b.batch_saved[numbers_at + 4 * g.c_out..][..folded_len(&g)].split_at(g.weights());
        let (_, argmax) = saved(&g, b.saved);
        forward::Forward { g, x: b.x[0], packed, bias, cell: 0, y: b.y, argmax, scratch: b.scratch }.run(isa);
    }

    /// The sparse sums; then, if it is needed, the gradient of the audio, from recomputed rows.
    fn backward(&self, isa: Isa, phase: usize, b: &mut Backward<'_>) {
        let BlockPlan { g, numbers_at, data_at: [packed, _], .. } = self.block;
        let (sums, argmax) = saved(&g, b.saved);
        if phase == 0 {
            sums.fill(0.0);
            let (dw, db) = sums.split_at_mut(g.weights());
            pooled_weight::PooledWeight { g, x: b.x[0], dy: b.dy, argmax, dw, db, scratch: b.scratch }.mono(isa);
            return;
        }
        if b.dx[0].is_empty() {
            return;
        }
        let (terms, scratch) = b.scratch.split_at_mut(round_up(4 * g.c_out));
        let (own, scratch) = scratch.split_at_mut(recomputed_scratch(&g));
        let terms = NormGradient::terms(&b.batch_saved[numbers_at..], &b.params[SCALE], terms);
        let gradient = NormGradient { g, dy: b.dy, argmax, y: &[], terms };
        let dz = RecomputedRows { gradient, x: b.x[0], packed: &b.batch_saved[..packed], scratch: own.into() };
        self.block.backward_data(isa, (&dz, 0..g.l), b.batch_saved, &mut *b.dx[0], scratch);
    }

    fn merge(&self, b: &mut Merge<'_>) {
        let c = self.block.g.c_out;
        Channels::new(&self.block, self.norm, b).of_moments(|t, j| t * c + j);
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        device::Block::new(&self.block, batch).with_norm(self.norm)
    }
}

/// Numbers of folded weights and bias.
pub fn folded_len(g: &Geometry) -> usize {
    (g.k + 1) * g.c_out
}

impl Channels<'_, '_> {
    /// From every sample's moments and sparse sums: `sum_at(t, j)` is the index of that of tap `t` in channel `j`, with `t = k` that of the gradient
    /// itself.
    pub fn of_moments(self, sum_at: impl Fn(usize, usize) -> usize) {
        match self.merge.pass {
            Pass::Forward => self.moments_forward(),
            Pass::Backward => self.moments_backward(sum_at),
        }
    }

    fn moments(&self) -> Moments {
        let (mut all, k) = (Moments::default(), self.g.k);
        (0..self.merge.n).for_each(|i| all.add(k, &(self.merge.saved)(i)[..moments_len(k)]));
        all
    }

    /// The taps of channel `j`; zeros beyond.
    fn taps(&self, j: usize) -> [f64; MOST_MONO_TAPS] {
        let mut taps = [0.0; MOST_MONO_TAPS];
        for (t, tap) in taps.iter_mut().enumerate().take(self.g.k) {
            *tap = f64::from(self.merge.params[WEIGHT][t * self.g.c_out + j]);
        }
        taps
    }

    /// Statistics, and the weights with the norm in them.
    fn moments_forward(self) {
        let moments = self.moments();
        let (c, k, statistics_at) = (self.g.c_out, self.g.k, self.statistics_at);
        let m = (self.merge.n * self.g.l_out) as f64;
        for j in 0..c {
            let w = &self.taps(j)[..k];
            let mean = dot(w, &moments.sums) / m;
            let square = moments.products.iter().zip(w).map(|(row, w_t)| w_t * dot(w, row)).sum::<f64>() / m;
            let variance = (square - mean * mean).max(0.0);
            let inv_std = self.norm.inv_std(variance);
            let b = &mut *self.merge;
            let (scale, bias) = (b.params[SCALE][j], b.params[BIAS][j]);
            b.batch_saved[statistics_at + j] = sign(scale) * mean as f32;
            b.batch_saved[statistics_at + c + j] = inv_std;
            let size = f64::from(scale) * f64::from(inv_std);
            let folded = &mut b.batch_saved[statistics_at + 4 * c..];
            for (t, w) in w.iter().enumerate() {
                folded[t * c + j] = (size * w) as f32;
            }
            folded[k * c + j] = (f64::from(b.params[SHIFT][j]) - size * mean) as f32;
            let unbiased = variance * m / (m - 1.0).max(1.0);
            self.norm.follow(&mut b.state, j, mean + f64::from(bias), unbiased);
        }
    }

    /// All parameters' gradients.
    fn moments_backward(self, sum_at: impl Fn(usize, usize) -> usize) {
        let moments = self.moments();
        let [_, sums_at, ..] = offsets(&self.g);
        let (c, k, statistics_at) = (self.g.c_out, self.g.k, self.statistics_at);
        let m = self.merge.n * self.g.l_out;
        for j in 0..c {
            let w = &self.taps(j)[..k];
            let b = &mut *self.merge;
            let mut sparse = [0.0; MOST_MONO_TAPS + 1];
            for i in 0..b.n {
                let saved = &(b.saved)(i)[sums_at..];
                sparse.iter_mut().enumerate().take(k + 1).for_each(|(t, sum)| *sum += f64::from(saved[sum_at(t, j)]));
            }
            let total = std::mem::take(&mut sparse[k]);
            let scale = f64::from(b.params[SCALE][j]);
            let (sign, inv_std) = (f64::from(sign(b.params[SCALE][j])), b.batch_saved[statistics_at + c + j]);
            let mean = sign * f64::from(b.batch_saved[statistics_at + j]);
            let products = dot(w, &sparse) - mean * total;
            // Of the signed rows, as everywhere.
            let sums = gradient_sums(std::iter::once((total as f32, (sign * products) as f32)), inv_std, m);
            b.dparams[SCALE][j] += (products * f64::from(inv_std)) as f32;
            b.dparams[SHIFT][j] += total as f32;
            (b.batch_saved[statistics_at + 2 * c + j], b.batch_saved[statistics_at + 3 * c + j]) = sums.terms;
            let inv_std = f64::from(inv_std);
            let (mean_gradient, slope) = (total / m as f64, products * inv_std * inv_std / m as f64);
            for (t, sparse) in sparse.iter().enumerate().take(k) {
                let x = moments.sums[t];
                let deviations = dot(w, &moments.products[t]) - mean * x;
                let dw = scale * inv_std * (sparse - mean_gradient * x - slope * deviations);
                b.dparams[WEIGHT][t * c + j] += dw as f32;
            }
        }
    }
}

/// The sum of the products of `a` with as many numbers of `b`.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
