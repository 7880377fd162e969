//! The kernels of conv_block with batch norm forward: the convolution with the pool's choice and the statistics of its rows, and, once the statistics
//! of the batch are known, norm and ReLU of what the pool chose.
#![allow(unsafe_code)] // reason: whole vectors go through pointers; lengths are asserted before a block

use super::convolve::{Convolve, Stored, rows_of};
use super::forward::{NO_GRADIENT, windows};
use super::geometry::Geometry;
use super::norm::Saved;
use crate::base::aligned::round_up;
use crate::simd::transform::{Epilogue, TilePos, Window, Windows, pool};
use crate::simd::winograd::TILE;
use crate::simd::{Isa, Kernel, Simd, product};

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
    pub norm: [&'a [f32]; 2],
    pub y: &'a mut [f32],
    /// Empty without pool.
    pub argmax: &'a mut [u8],
}

impl Kernel for Activate<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Activate { z, statistics, norm, y, argmax } = self;
        let [scale, shift] = norm;
        let c = scale.len();
        assert!(z.len() == y.len() && y.len().is_multiple_of(c) && shift.len() == c && statistics.len() >= 2 * c);
        assert!(argmax.is_empty() || argmax.len() == y.len());
        for j in (0..c).step_by(S::LANES) {
            let lanes = (c - j).min(S::LANES);
            let whole = lanes == S::LANES;
            // SAFETY: `lanes` channels from `j` on lie in every row of `z`, `y` and `argmax`, which are as long, and in the
            // channels' numbers (asserted).
            unsafe {
                let load = |from: *const f32| if whole { s.load(from) } else { s.load_first(from, lanes) };
                let mean = load(statistics.as_ptr().add(j));
                let scale = load(scale.as_ptr().add(j));
                let scale = s.mul(s.max(scale, s.sub(s.zero(), scale)), load(statistics.as_ptr().add(c + j)));
                let shift = load(shift.as_ptr().add(j));
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
