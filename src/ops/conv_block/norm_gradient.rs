//! The gradient of the convolution's rows in a conv_block with batch norm: dense, computed in place of the
//! rows when it is needed.
//!
//! **Registers** of a window: four terms, its gradient and argmax, a row; no row is accessed twice.
//!
//! For the gradient of the audio, the rows of a convolution with one input channel are recomputed ([`RecomputedRows`]).
#![allow(unsafe_code)] // reason: whole vectors go through pointers; lengths are asserted at entry

use super::convolve::{Rows, Stored, clear_outside, rows_of};
use super::geometry::Geometry;
use crate::base::aligned::round_up;
use crate::simd::transform::{GROUP, MonoConvolution, PlainRows};
use crate::simd::{Isa, Kernel, Simd, product, sum};
use std::cell::RefCell;

/// The first phase backward: sums of `dy` and of `dy * (z - mean)` where the output is above zero.
pub struct GradientSums<'a> {
    pub dy: &'a [f32],
    /// What the pool chose, or without pool the rows.
    pub z: &'a [f32],
    pub y: &'a [f32],
    pub mean: &'a [f32],
    /// `[2, c]`.
    pub sums: &'a mut [f32],
}

/// Rows whose sums are taken before they join the total.
const SUM_ROWS: usize = 64;

impl Kernel for GradientSums<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let GradientSums { dy, z, y, mean, sums } = self;
        let c = mean.len();
        assert!(dy.len() == z.len() && y.len() == dy.len() && dy.len().is_multiple_of(c) && sums.len() == 2 * c);
        sums.fill(0.0);
        for block in (0..dy.len()).step_by(SUM_ROWS * c) {
            let end = (block + SUM_ROWS * c).min(dy.len());
            for j in (0..c).step_by(S::LANES) {
                let lanes = (c - j).min(S::LANES);
                // SAFETY: `lanes` channels from `j` on lie in every row of the operands, which are as long, and in the
                // channels' numbers (asserted).
                unsafe {
                    let load =
                        |from: *const f32| if lanes == S::LANES { s.load(from) } else { s.load_first(from, lanes) };
                    let mean = load(mean.as_ptr().add(j));
                    let (mut sum, mut product) = (s.zero(), s.zero());
                    for row in (block + j..end).step_by(c) {
                        let positive = s.gt(load(y.as_ptr().add(row)), s.zero());
                        let g = s.select(positive, load(dy.as_ptr().add(row)), s.zero());
                        sum = s.add(sum, g);
                        product = s.fma(g, s.sub(load(z.as_ptr().add(row)), mean), product);
                    }
                    for (first, sum) in [(j, sum), (c + j, product)] {
                        let total = s.add(load(sums.as_ptr().add(first)), sum);
                        s.store_to(&mut sums[first..first + lanes], total);
                    }
                }
            }
        }
    }
}

/// What the gradient of the convolution's rows is made of, sign and all: of a signed row `z` it is
/// `p * dy [where the row is the largest of its window and the output is above zero] + q + r * (z - mean)`.
#[derive(Clone, Copy)]
pub struct NormGradient<'a> {
    pub g: Geometry,
    pub dy: &'a [f32],
    /// Positions; empty without pool.
    pub argmax: &'a [u8],
    /// Output; empty with pool.
    pub y: &'a [f32],
    /// `[mean, p, q, r]`.
    pub terms: &'a [f32],
}

impl NormGradient<'_> {
    /// The terms, from `[mean, inv_std, a, b]` (see `merge`) and the scale.
    pub fn terms<'t>(batch_saved: &[f32], scale: &[f32], terms: &'t mut [f32]) -> &'t [f32] {
        let c = scale.len();
        let terms = &mut terms[..4 * c];
        for j in 0..c {
            let size = scale[j] * batch_saved[c + j]; // the sign is the scale's own
            terms[j] = batch_saved[j];
            terms[c + j] = size;
            terms[2 * c + j] = -size * batch_saved[2 * c + j];
            terms[3 * c + j] = -size * batch_saved[3 * c + j];
        }
        terms
    }
}

/// Turns signed rows, of which the first is row `first`, into their gradient, in place.
pub struct TurnRows<'a, 'g> {
    pub gradient: &'a NormGradient<'g>,
    pub first: usize,
    pub rows: &'a mut [f32],
}

/// The distance, in bytes, at which later rows are prefetched.
const PREFETCH_BYTES: usize = 2048;

impl Kernel for TurnRows<'_, '_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let TurnRows { gradient, first, rows } = self;
        let NormGradient { g, dy, argmax, y, terms } = *gradient;
        let c = g.c_out;
        let end = sum([first, rows.len() / c]);
        assert!(rows.len().is_multiple_of(c) && end <= g.l_out);
        assert!(dy.len() == product([g.cells(), c]) && terms.len() == product([4, c]));
        assert!(if g.window > 1 { argmax.len() == dy.len() } else { y.len() == dy.len() });
        let mut row = first;
        while row < end {
            // A whole window of rows, or what of it is among them; rows after the last window have only the terms of the norm.
            let cell = row / g.window;
            let next = ((cell + 1) * g.window).min(end);
            for j in (0..c).step_by(S::LANES) {
                // SAFETY: rows `row .. next`, all of window `cell`, are among `rows` from `first` on, `c` numbers each; the
                // operands hold as much as `window` requires (asserted).
                unsafe {
                    let to = rows.as_mut_ptr().add((row - first) * c + j);
                    let window = Window { gradient, number: cell * c + j, t: row % g.window, rows: next - row, j };
                    match (cell < g.cells(), c - j >= S::LANES) {
                        (true, true) => window.turn::<S, true>(s, S::LANES, to),
                        (true, false) => window.turn::<S, true>(s, c - j, to),
                        (false, _) => window.turn::<S, false>(s, (c - j).min(S::LANES), to),
                    }
                }
            }
            row = next;
        }
    }
}

/// Some channels of the rows of one window.
struct Window<'a, 'g> {
    gradient: &'a NormGradient<'g>,
    /// Its first number in `dy`.
    number: usize,
    /// Which of its rows the first is.
    t: usize,
    rows: usize,
    /// First channel.
    j: usize,
}

impl Window<'_, '_> {
    /// Turns its rows from `to` on; those of no window are not `CHOSEN`.
    ///
    /// # Safety
    /// `lanes` channels from `j` on are among those of every row and of `terms`; where rows are chosen, as many numbers from
    /// `number` on are in `dy`, and in `argmax` or `y`.
    #[inline(always)]
    unsafe fn turn<S: Simd, const CHOSEN: bool>(self, s: S, lanes: usize, to: *mut f32) {
        let Window { gradient: NormGradient { g, dy, argmax, y, terms }, number, t, rows, j } = self;
        let (c, whole) = (g.c_out, lanes == S::LANES);
        // SAFETY: the caller's contract.
        unsafe {
            let load = |from: *const f32| if whole { s.load(from) } else { s.load_first(from, lanes) };
            let term = |k: usize| load(terms.as_ptr().add(k * c + j));
            let (mean, p, q, r) = (term(0), term(1), term(2), term(3));
            let (mut dy_cell, mut chosen) = (s.zero(), s.splat_argmax(0));
            if CHOSEN {
                dy_cell = load(dy.as_ptr().add(number));
                // Without pool the row is chosen where the output is above zero.
                chosen = if g.window > 1 {
                    s.load_argmax(argmax.as_ptr().add(number), lanes)
                } else {
                    s.masked_max(s.le(load(y.as_ptr().add(number)), s.zero()), 1, chosen)
                };
            }
            for i in 0..rows {
                let to = to.add(i * c);
                s.prefetch_write(to.cast::<u8>().wrapping_add(PREFETCH_BYTES));
                let mut row = s.fma(r, s.sub(load(to), mean), q);
                if CHOSEN {
                    row = s.select(s.argmax_eq(chosen, (t + i) as u8), s.fma(p, dy_cell, row), row);
                }
                if whole { s.store(to, row) } else { s.store_first(to, lanes, row) }
            }
        }
    }
}

/// The gradient where the rows are not stored: they are recomputed.
pub struct RecomputedRows<'a> {
    pub gradient: NormGradient<'a>,
    pub x: &'a [f32],
    /// Forward's.
    pub packed: &'a [f32],
    /// For the samples that rows are made of.
    pub scratch: RefCell<&'a mut [f32]>,
}

/// Numbers of scratch for [`RecomputedRows`].
pub fn recomputed_scratch(g: &Geometry) -> usize {
    let rows = g.backward_data().rows_read(g.backward_data().block_rows()).next_multiple_of(GROUP);
    round_up(rows + g.k - 1)
}

impl Rows for RecomputedRows<'_> {
    fn rows<'b>(&'b self, isa: Isa, first: isize, count: usize, scratch: &'b mut [f32]) -> &'b [f32] {
        let Geometry { c_out: c, k, pad, l_out, .. } = self.gradient.g;
        let rows = &mut scratch[..count * c];
        let inside = clear_outside(rows, c, first, l_out);
        if inside.is_empty() {
            return rows;
        }
        let (from, made) = ((first + inside.start as isize) as usize, inside.len());
        let z = &mut rows[inside.start * c..inside.end * c];
        let (x, mut own) = (Stored { x: self.x, c: 1 }, self.scratch.borrow_mut());
        let x = x.rows(isa, from as isize - pad as isize, made.next_multiple_of(GROUP) + k - 1, &mut own);
        let mut keep = PlainRows { y: &mut *z, c };
        isa.run(MonoConvolution { x, w: self.packed, k, c, first: 0, rows: made, epilogue: &mut keep });
        isa.run(TurnRows { gradient: &self.gradient, first: from, rows: z });
        rows
    }

    fn memory(&self, first: usize, count: usize) -> [&[u8]; 3] {
        let NormGradient { g, dy, argmax, .. } = self.gradient;
        let (cell, cells) = (first / g.window, count.div_ceil(g.window));
        [bytemuck::cast_slice(rows_of(dy, g.c_out, cell, cells)), rows_of(argmax, g.c_out, cell, cells), &[]]
    }
}
