//! Floor 2. The gradient of the convolution's rows in a conv_block with batch norm: dense, made row by row when it is needed.
//!
//! If the gradient of the audio is asked for, the rows of one input channel are made again for it ([`Again`]).
#![allow(unsafe_code)] // reason: whole vectors go through pointers; lengths are asserted at entry

use super::convolve::{Rows, Stored, part};
use super::geometry::Geometry;
use super::gradient::clear_outside;
use crate::base::aligned::round_up;
use crate::simd::transform::{GROUP, PlainRows, SingleChannel};
use crate::simd::{Isa, Kernel, Simd};
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
                        let alive = s.gt(load(y.as_ptr().add(row)), s.zero());
                        let g = s.select(alive, load(dy.as_ptr().add(row)), s.zero());
                        sum = s.add(sum, g);
                        product = s.fma(g, s.sub(load(z.as_ptr().add(row)), mean), product);
                    }
                    for (at, sum) in [(j, sum), (c + j, product)] {
                        let total = s.add(load(sums.as_ptr().add(at)), sum);
                        s.store_to(&mut sums[at..at + lanes], total);
                    }
                }
            }
        }
    }
}

/// The gradient of the convolution's rows, sign and all: `p * dy [where the row was chosen and alive] + q + r * (z - mean)`.
#[derive(Clone, Copy)]
pub struct Normed<'a> {
    pub g: Geometry,
    pub dy: &'a [f32],
    /// Positions; empty without pool.
    pub at: &'a [u8],
    /// Output; empty with pool.
    pub y: &'a [f32],
    /// Signed rows.
    pub z: &'a [f32],
    /// Which row the first of them is.
    pub z_first: usize,
    /// `[mean, p, q, r]`.
    pub terms: &'a [f32],
}

impl Normed<'_> {
    /// The terms, from `[mean, inv_std, a, b]` (see `merge`) and the scale.
    pub fn terms<'t>(shared: &[f32], scale: &[f32], terms: &'t mut [f32]) -> &'t [f32] {
        let c = scale.len();
        let terms = &mut terms[..4 * c];
        for j in 0..c {
            let size = scale[j] * shared[c + j]; // the sign is the scale's own
            terms[j] = shared[j];
            terms[c + j] = size;
            terms[2 * c + j] = -size * shared[2 * c + j];
            terms[3 * c + j] = -size * shared[3 * c + j];
        }
        terms
    }
}

impl Rows for Normed<'_> {
    fn rows<'b>(&'b self, isa: Isa, first: isize, count: usize, scratch: &'b mut [f32]) -> &'b [f32] {
        let rows = &mut scratch[..count * self.g.c_out];
        isa.run(NormedRows { gradient: self, first, rows });
        rows
    }

    fn memory(&self, first: usize, count: usize) -> [&[u8]; 3] {
        let (c, cell) = (self.g.c_out, first / self.g.window);
        let cells = count.div_ceil(self.g.window);
        let z = bytemuck::cast_slice(part(self.z, c, first, count));
        [z, bytemuck::cast_slice(part(self.dy, c, cell, cells)), part(self.at, c, cell, cells)]
    }
}

struct NormedRows<'a, 'g> {
    gradient: &'a Normed<'g>,
    first: isize,
    rows: &'a mut [f32],
}

impl Kernel for NormedRows<'_, '_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let NormedRows { gradient: &Normed { g, dy, at, y, z, z_first, terms }, first, rows } = self;
        let (c, pooled) = (g.c_out, g.window > 1);
        let inside = clear_outside(rows, c, first, g.l_out);
        if inside.is_empty() {
            return;
        }
        let from = (first + inside.start as isize) as usize;
        let rows = &mut rows[inside.start * c..inside.end * c];
        assert!(from >= z_first && z.len() >= (from - z_first) * c + rows.len());
        assert!(dy.len() == g.cells() * c && terms.len() == 4 * c);
        assert!(if pooled { at.len() == dy.len() } else { y.len() == dy.len() });
        for j in (0..c).step_by(S::LANES) {
            let lanes = (c - j).min(S::LANES);
            let whole = lanes == S::LANES;
            // SAFETY: `lanes` channels from `j` on lie in every row of `z` and `rows`, in every cell of `dy`, `at` and `y`,
            // and in the terms (asserted); row `from + i` is one of `z`'s.
            unsafe {
                let load = |from: *const f32| if whole { s.load(from) } else { s.load_first(from, lanes) };
                let term = |k: usize| load(terms.as_ptr().add(k * c + j));
                let (mean, p, q, r) = (term(0), term(1), term(2), term(3));
                let (mut cell, mut t) = (from / g.window, from % g.window);
                for i in 0..rows.len() / c {
                    let mut row = s.fma(r, s.sub(load(z.as_ptr().add((from - z_first + i) * c + j)), mean), q);
                    if cell < g.cells() {
                        let number = cell * c + j;
                        let chosen = if pooled {
                            s.eq(s.load_bytes(at.as_ptr().add(number), lanes), s.splat(t as f32))
                        } else {
                            s.gt(load(y.as_ptr().add(number)), s.zero())
                        };
                        row = s.select(chosen, s.fma(p, load(dy.as_ptr().add(number)), row), row);
                    }
                    let to = rows.as_mut_ptr().add(i * c + j);
                    if whole {
                        s.store(to, row)
                    } else {
                        s.store_first(to, lanes, row)
                    }
                    t += 1;
                    if t == g.window {
                        (cell, t) = (cell + 1, 0);
                    }
                }
            }
        }
    }
}

/// The gradient where the rows are not kept: they are made again.
pub struct Again<'a> {
    /// Without rows.
    pub dz: Normed<'a>,
    pub x: &'a [f32],
    /// Forward's.
    pub packed: &'a [f32],
    /// For the rows and what they are made of.
    pub scratch: RefCell<&'a mut [f32]>,
}

/// Numbers of scratch for [`Again`].
pub fn again_scratch(g: &Geometry) -> usize {
    let rows = g.backward_data().rows_read(g.backward_data().block_rows()).next_multiple_of(GROUP);
    round_up(rows * g.c_out) + round_up(rows + g.k - 1)
}

impl Rows for Again<'_> {
    fn rows<'b>(&'b self, isa: Isa, first: isize, count: usize, scratch: &'b mut [f32]) -> &'b [f32] {
        let Geometry { c_out, k, pad, l_out, .. } = self.dz.g;
        let rows = &mut scratch[..count * c_out];
        let inside = clear_outside(rows, c_out, first, l_out);
        if inside.is_empty() {
            return rows;
        }
        let (from, made) = ((first + inside.start as isize) as usize, inside.len());
        let mut own = self.scratch.borrow_mut();
        let (z, own) = own.split_at_mut(round_up(made.next_multiple_of(GROUP) * c_out));
        let x = Stored { x: self.x, c: 1 };
        let x = x.rows(isa, from as isize - pad as isize, made.next_multiple_of(GROUP) + k - 1, own);
        let mut keep = PlainRows { y: z, c: c_out };
        isa.run(SingleChannel { x, w: self.packed, k, c: c_out, first: 0, rows: made, epilogue: &mut keep });
        let gradient = &Normed { z: &z[..made * c_out], z_first: from, ..self.dz };
        isa.run(NormedRows { gradient, first, rows });
        rows
    }

    fn memory(&self, first: usize, count: usize) -> [&[u8]; 3] {
        self.dz.memory(first, count)
    }
}
