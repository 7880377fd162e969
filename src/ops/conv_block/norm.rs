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
#![allow(unsafe_code)] // reason: whole vectors go through pointers; lengths are asserted before a block

use super::ConvBlock;
use super::convolve::{Convolve, Stored, rows_of};
use super::forward::{NO_GRADIENT, windows};
use super::geometry::{Geometry, WeightGradPath};
use super::norm_gradient::{GradientSums, NormGradient, TurnRows};
use super::weight::{self, DenseWeight};
use crate::base::aligned::round_up;
use crate::ops::BatchNorm;
use crate::ops::batch_norm::{gradient_sums, together};
use crate::ops::op::{Backward, Forward, Merge, Pass};
use crate::simd::transform::{Epilogue, GROUP, TilePos, Window, Windows, pool};
use crate::simd::winograd::TILE;
use crate::simd::{Isa, Kernel, Simd, product};

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

/// 1, or -1 where the norm's scale is negative.
pub fn sign(scale: f32) -> f32 {
    if scale < 0.0 { -1.0 } else { 1.0 }
}

impl ConvBlock {
    /// Convolution, pool and statistics; then the norm.
    pub(super) fn norm_forward(&self, isa: Isa, phase: usize, g: &Geometry, b: &mut Forward<'_>) {
        let (g, [packed, _, norm_at]) = (*g, self.batch_saved_at(g));
        let saved = saved(&g, b.saved);
        if phase == 0 {
            NormForward { g, x: b.x[0], packed: &b.batch_saved[..packed], saved, scratch: b.scratch }.run(isa);
            return;
        }
        let (statistics, norm) = (&b.batch_saved[norm_at..][..2 * g.c_out], &b.params[self.norm_at(&g)..]);
        let z = if g.window > 1 { saved.pooled } else { saved.z };
        isa.run(Activate { z, statistics, norm, y: b.y, argmax: saved.argmax });
    }

    /// Sums over what the pool chose; then the gradients from dense rows.
    pub(super) fn norm_backward(&self, isa: Isa, phase: usize, g: &Geometry, b: &mut Backward<'_>) {
        let (g, [.., norm_at]) = (*g, self.batch_saved_at(g));
        let saved = saved(&g, b.saved);
        let batch_saved = &b.batch_saved[norm_at..];
        if phase == 0 {
            let z = if g.window > 1 { saved.pooled } else { saved.z };
            isa.run(GradientSums { dy: b.dy, z, y: b.y, mean: &batch_saved[..g.c_out], sums: saved.sums });
            return;
        }
        let (terms, scratch) = b.scratch.split_at_mut(round_up(4 * g.c_out));
        let terms = NormGradient::terms(batch_saved, &b.params[self.norm_at(&g)..][..g.c_out], terms);
        let gradient = NormGradient { g, dy: b.dy, argmax: saved.argmax, y: b.y, terms };
        let WeightGradPath::Dense(conv) = self.weight_grad_path(&g) else {
            unreachable!("the gradient of a normalised convolution is dense");
        };
        let (sums, scratch) = scratch.split_at_mut(weight::sums_len(&conv));
        let learns = !b.dparams.is_empty();
        let dw = if learns { &mut b.dparams[..g.weights()] } else { &mut [] };
        let mut of_weights = DenseWeight { conv, x: b.x[0], dw, sums };
        let of_data = g.backward_data();
        let mut turned = 0;
        // Each block of rows is turned into its gradient once, and serves both gradients while it is in the caches.
        for first in (0..g.l.max(g.l_out)).step_by(BOTH_ROWS) {
            let read = (first + of_data.rows_read(BOTH_ROWS)).saturating_sub(of_data.pad);
            let ready = read.max(first + BOTH_ROWS).next_multiple_of(GROUP).min(g.l_out).max(turned);
            let rows = &mut saved.z[turned * g.c_out..ready * g.c_out];
            isa.run(TurnRows { gradient: &gradient, first: turned, rows });
            turned = ready;
            let dz = Stored { x: saved.z, c: g.c_out };
            let until = |end: usize| first.min(end)..(first + BOTH_ROWS).min(end);
            if learns {
                of_weights.add(isa, &dz, until(g.l_out), scratch);
            }
            self.backward_data(isa, &g, (&dz, until(g.l)), b.batch_saved, &mut *b.dx[0], scratch);
        }
        if learns {
            of_weights.finish(isa);
        }
    }
}

/// What the merges share: the op's parameters, and the location of its numbers for all samples.
pub struct Channels<'a, 'b> {
    pub g: Geometry,
    pub norm: BatchNorm,
    /// Where the norm's parameters begin.
    pub norm_at: usize,
    /// Where in `batch_saved` `[mean, inv_std, a, b]` begin: the signed rows' statistics, and the terms of their gradient. With one
    /// input channel the folded weights and bias follow.
    pub statistics_at: usize,
    pub merge: &'a mut Merge<'b>,
}

impl Channels<'_, '_> {
    /// From every sample's sums over its rows.
    pub fn of_rows(self) {
        let Channels { g, norm, norm_at, statistics_at, merge: b } = self;
        let c = g.c_out;
        let [z, pooled, ..] = lengths(&g);
        let m = b.n * g.l_out;
        for j in 0..c {
            let of = |i: usize| {
                let sums = &(b.saved)(i)[z + pooled..];
                (sums[j], sums[c + j])
            };
            let sign = sign(b.params[norm_at + j]);
            match b.pass {
                Pass::Forward => {
                    let (mean, squares) = together(g.l_out, (0..b.n).map(of));
                    b.batch_saved[statistics_at + j] = mean as f32;
                    b.batch_saved[statistics_at + c + j] = norm.inv_std(squares / m as f64);
                    let mean = f64::from(sign) * mean + f64::from(b.params[g.weights() + j]);
                    norm.follow(b.state, (c, j), mean, squares / (m as f64 - 1.0).max(1.0));
                }
                Pass::Backward => {
                    let sums = gradient_sums((0..b.n).map(of), b.batch_saved[statistics_at + c + j], m);
                    b.dparams[norm_at + j] += sign * sums.scale;
                    b.dparams[norm_at + c + j] += sums.shift;
                    (b.batch_saved[statistics_at + 2 * c + j], b.batch_saved[statistics_at + 3 * c + j]) = sums.terms;
                }
            }
        }
    }
}

/// Keeps the rows, what the pool chooses of them, and their statistics.
struct Observe<'a, const WINDOW: usize> {
    c: usize,
    ceil: bool,
    saved: Saved<'a>,
    /// Around which the sums of the block are taken, and the sums of deviations and of their squares: `[3, c]`.
    block: &'a mut [f32],
    /// Rows in the statistics.
    seen: usize,
}

impl<const WINDOW: usize> Epilogue for Observe<'_, WINDOW> {
    const TILES: usize = if WINDOW == 3 { 3 } else { 1 };
    // With a pool, `mono_norm` keeps no rows.
    const FEW_TAPS: bool = WINDOW == 1;

    #[inline(always)]
    fn fits(&self, rows: usize, c: usize) -> bool {
        let cells = if WINDOW == 1 { 0 } else { product([windows(rows, WINDOW, self.ceil), c]) };
        let rows = product([rows, c]);
        let Saved { z, pooled, argmax, .. } = &self.saved;
        c == self.c && self.block.len() == 3 * c && z.len() >= rows && pooled.len() >= cells && argmax.len() >= cells
    }

    fn writes(&self, first: usize, rows: usize) -> &[u8] {
        bytemuck::cast_slice(rows_of(self.saved.pooled, self.c, first / WINDOW, rows / WINDOW))
    }

    #[inline(always)]
    unsafe fn take<S: Simd, const T: usize>(&mut self, s: S, pos: TilePos, rows: [S::V; TILE], open: &mut Window<S>) {
        let TilePos { first, left, j, lanes } = pos;
        let c = self.c;
        let whole = lanes == S::LANES;
        // SAFETY: `lanes` channels from `j` on are among those of `block`, of every row of `z` and of every cell of `pooled`
        // and `argmax`, by the caller's contract.
        unsafe {
            let load = |from: *const f32| if whole { s.load(from) } else { s.load_first(from, lanes) };
            let store = |to: *mut f32, v: S::V| if whole { s.store(to, v) } else { s.store_first(to, lanes, v) };
            let block = self.block.as_mut_ptr().add(j);
            if first == 0 {
                store(block, rows[0]);
            }
            let center = load(block);
            let (mut sum, mut squares) = (load(block.add(c)), load(block.add(2 * c)));
            let z = self.saved.z.as_mut_ptr();
            for (i, &row) in rows.iter().enumerate() {
                if i < left {
                    let deviation = s.sub(row, center);
                    sum = s.add(sum, deviation);
                    squares = s.fma(deviation, deviation, squares);
                    // Nobody reads the rows before backward: they would push out of the caches what is needed now.
                    let to = z.add((first + i) * c + j);
                    if whole { s.stream(to, row) } else { s.store_first(to, lanes, row) }
                }
            }
            store(block.add(c), sum);
            store(block.add(2 * c), squares);
            if WINDOW == 1 {
                return;
            }
            pool::<S, _, WINDOW, T>(s, &pos, rows, self.ceil, open, self);
        }
    }

    #[inline(always)]
    fn end<S: Simd>(&mut self, s: S, rows: usize) {
        s.fence();
        let c = self.c;
        let (center, sums) = self.block.split_at_mut(c);
        let (sum, squares) = sums.split_at_mut(c);
        let (mean, m2) = self.saved.sums.split_at_mut(c);
        let (n, all) = (rows as f32, (self.seen + rows) as f32);
        let share = self.seen as f32 * n / all;
        for j in 0..c {
            // The block's own statistics, which join those before it.
            let own = center[j] + sum[j] / n;
            let delta = own - mean[j];
            mean[j] += delta * (n / all);
            m2[j] += (squares[j] - sum[j] * (sum[j] / n)).max(0.0) + delta * delta * share;
            (center[j], sum[j], squares[j]) = (mean[j], 0.0, 0.0);
        }
        self.seen += rows;
    }
}

impl<const WINDOW: usize> Windows for Observe<'_, WINDOW> {
    const ARGMAX: bool = true;

    #[inline(always)]
    unsafe fn close<S: Simd>(
        &mut self,
        s: S,
        cell: usize,
        &TilePos { j, lanes, .. }: &TilePos,
        best: S::V,
        argmax: S::Argmax,
    ) {
        let to = cell * self.c + j;
        // SAFETY: `lanes` channels from `j` on of the cell are among those of `pooled` and `argmax`, by the caller's contract.
        unsafe {
            let pooled = self.saved.pooled.as_mut_ptr().add(to);
            if lanes == S::LANES {
                s.store(pooled, best)
            } else {
                s.store_first(pooled, lanes, best)
            }
            s.store_argmax(self.saved.argmax.as_mut_ptr().add(to), lanes, argmax);
        }
    }
}

/// The first phase forward: convolution, pool, statistics.
pub struct NormForward<'a> {
    pub g: Geometry,
    pub x: &'a [f32],
    pub packed: &'a [f32],
    pub saved: Saved<'a>,
    pub scratch: &'a mut [f32],
}

impl NormForward<'_> {
    pub fn run(self, isa: Isa) {
        match self.g.window {
            1 => self.windows::<1>(isa),
            2 => self.windows::<2>(isa),
            3 => self.windows::<3>(isa),
            _ => self.windows::<4>(isa),
        }
    }

    fn windows<const WINDOW: usize>(self, isa: Isa) {
        let NormForward { g, x, packed, saved, scratch } = self;
        let c = g.c_out;
        let (block, scratch) = scratch.split_at_mut(round_up(3 * c));
        let block = &mut block[..3 * c];
        block.fill(0.0);
        saved.sums.fill(0.0);
        let mut epilogue = Observe::<WINDOW> { c, ceil: g.ceil, saved, block, seen: 0 };
        let source = Stored { x, c: g.c_in };
        let conv = g.forward(true);
        let rows = 0..conv.rows_out;
        Convolve { conv, rows, packed, source: &source, epilogue: &mut epilogue, scratch }.run(isa);
    }
}

/// The last phase forward: `y = max(0, (z - mean) * scale + shift)` of the pooled rows. Marks windows with a zero gradient.
pub struct Activate<'a> {
    pub z: &'a [f32],
    /// `[mean, inv_std]` of the signed rows.
    pub statistics: &'a [f32],
    /// `[scale, shift]`.
    pub norm: &'a [f32],
    pub y: &'a mut [f32],
    /// Empty without pool.
    pub argmax: &'a mut [u8],
}

impl Kernel for Activate<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Activate { z, statistics, norm, y, argmax } = self;
        let c = norm.len() / 2;
        assert!(z.len() == y.len() && y.len().is_multiple_of(c) && statistics.len() >= 2 * c);
        assert!(argmax.is_empty() || argmax.len() == y.len());
        for j in (0..c).step_by(S::LANES) {
            let lanes = (c - j).min(S::LANES);
            let whole = lanes == S::LANES;
            // SAFETY: `lanes` channels from `j` on lie in every row of `z`, `y` and `argmax`, which are as long, and in the
            // channels' numbers (asserted).
            unsafe {
                let load = |from: *const f32| if whole { s.load(from) } else { s.load_first(from, lanes) };
                let mean = load(statistics.as_ptr().add(j));
                let scale = load(norm.as_ptr().add(j));
                let scale = s.mul(s.max(scale, s.sub(s.zero(), scale)), load(statistics.as_ptr().add(c + j)));
                let shift = load(norm.as_ptr().add(c + j));
                for row in (j..y.len()).step_by(c) {
                    let value = s.fma(s.sub(load(z.as_ptr().add(row)), mean), scale, shift);
                    let to = y.as_mut_ptr().add(row);
                    let active = s.max(s.zero(), value);
                    if whole {
                        s.store(to, active)
                    } else {
                        s.store_first(to, lanes, active)
                    }
                    if !argmax.is_empty() {
                        let argmax = argmax.as_mut_ptr().add(row);
                        let chosen = s.load_argmax(argmax, lanes);
                        s.store_argmax(argmax, lanes, s.masked_max(s.le(value, s.zero()), NO_GRADIENT, chosen));
                    }
                }
            }
        }
    }
}
