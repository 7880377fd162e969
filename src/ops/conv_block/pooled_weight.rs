//! backward-weight of conv_block from the sparse gradient of a max pool: only the largest row of a window counts, and no row where ReLU has set it to 0.
#![allow(unsafe_code)] // reason: vectors are loaded and stored through pointers; lengths are asserted at entry

use super::WIDEST_WINDOW;
use super::convolve::{Rows, Stored, rows_of};
use super::forward::NO_GRADIENT;
use super::geometry::Geometry;
use crate::simd::planes::Prefetch;
use crate::simd::transform::load_some;
use crate::simd::{Isa, Kernel, PooledGradient, Simd, SparseUpdate, product, sum};

/// Adds to `dw` and `db` from a pooled gradient and its argmax.
pub struct PooledWeight<'a> {
    pub g: Geometry,
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub argmax: &'a [u8],
    pub dw: &'a mut [f32],
    pub db: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

/// Numbers of the input that a block of [`PooledWeight::sparse`] reads: 20 KiB, more than half of an L1 cache of 32 KiB. If they were
/// more, the sums, which are read and written once per block, would displace them from the cache.
const SPARSE_NUMBERS: usize = 5 * 1024;
/// The smallest number of pooling windows in a block, even if its rows are then read from the L2 cache. With fewer, the sums are read
/// and written more often, and the loop over the windows with a non-zero gradient is so short that its end is mispredicted.
const FEWEST_CELLS: usize = 24;

/// The number of pooling windows in a block of [`PooledWeight::sparse`].
pub fn cells(g: &Geometry) -> usize {
    let rows = (SPARSE_NUMBERS / g.c_in).saturating_sub(g.k - 1);
    (rows / (g.window * g.stride)).clamp(FEWEST_CELLS, PooledGradient::MAX_WINDOWS)
}

/// The length of the scratch memory of [`PooledWeight::sparse`] and [`reorder_gradients`].
pub fn sparse_scratch(g: &Geometry) -> usize {
    g.weights().max(rows_read(g, cells(g)) * g.c_in).next_multiple_of(16)
}

/// The rows of the input that `count` pooling windows read.
fn rows_read(g: &Geometry, count: usize) -> usize {
    (g.window * count - 1) * g.stride + g.k
}

impl PooledWeight<'_> {
    /// For each pooling window and output channel, adds the gradient times the `k * c_in` contiguous inputs of the row at the argmax.
    /// `dw` is `[c_out, k * c_in]` here, until [`reorder_gradients`] is called.
    pub fn sparse(self, isa: Isa) {
        let PooledWeight { g, x, dy, argmax, dw, db, scratch } = self;
        let Geometry { c_in, c_out, window, k, stride, .. } = g;
        let block = cells(&g);
        let x = Stored { x, c: c_in };
        for first in (0..g.cells()).step_by(block) {
            let count = block.min(g.cells() - first);
            let numbers = first * c_out..(first + count) * c_out;
            let next = first + block;
            let rows = x.memory(next * window * stride, window * block * stride)[0];
            let read =
                [rows, bytemuck::cast_slice(rows_of(dy, c_out, next, block)), rows_of(argmax, c_out, next, block)];
            isa.run(SparseUpdate {
                gradient: PooledGradient {
                    dy: &dy[numbers.clone()],
                    argmax: &argmax[numbers],
                    count,
                    window,
                    row: stride * c_in,
                },
                x: x.rows(isa, (window * first * stride) as isize - g.pad as isize, rows_read(&g, count), scratch),
                c: dw,
                db,
                width: k * c_in,
                prefetch: Prefetch { read, write: &[] },
            });
        }
    }
}

/// Transposes the sums of [`PooledWeight::sparse`], `[c_out, k * c_in]`, into the order of the weights, `[k, c_in, c_out]`.
pub fn reorder_gradients(g: &Geometry, dw: &mut [f32], scratch: &mut [f32]) {
    let sums = &mut scratch[..dw.len()];
    sums.copy_from_slice(dw);
    transpose(sums, g.k * g.c_in, dw);
}

/// Transposes a matrix whose rows have `columns` numbers. It writes in the order of memory; the cache lines that it reads stay in the
/// L1 cache for the next columns. Not a [`Kernel`]: compiled for AVX-512 it would use gather instructions, which load lane by lane.
pub fn transpose(from: &[f32], columns: usize, to: &mut [f32]) {
    let rows = from.len() / columns;
    for (column, to) in to.chunks_exact_mut(rows).enumerate() {
        for (to, number) in to.iter_mut().zip(from[column..].iter().step_by(columns)) {
            *to = *number;
        }
    }
}

/// Pooling windows whose contributions are summed in registers and then added to `dw` and `db`.
const MONO_CELLS: usize = 128;

/// Samples after the rows of the last pooling window that must be readable: 16 samples are loaded from the first row of a window on.
const WINDOW_MARGIN: usize = 16;

/// The length of the scratch memory of [`PooledWeight::mono`].
pub fn mono_scratch(g: &Geometry) -> usize {
    g.window * MONO_CELLS + WINDOW_MARGIN
}

impl PooledWeight<'_> {
    /// For one input channel and 3 or 5 taps. An output depends on too few samples to fill a vector, so a vector holds neighbouring
    /// output channels instead, and each lane selects its samples from one vector of the input. **Registers** `K` sums and that of
    /// the bias, the samples, the argmax, `K` vectors of selected samples.
    pub fn mono(self, isa: Isa) {
        let PooledWeight { g, x, dy, argmax, dw, db, scratch } = self;
        let x = Stored { x, c: 1 };
        for first in (0..g.cells()).step_by(MONO_CELLS) {
            let count = MONO_CELLS.min(g.cells() - first);
            let numbers = first * g.c_out..(first + count) * g.c_out;
            let rows = g.window * count + WINDOW_MARGIN;
            let x = x.rows(isa, (g.window * first) as isize - g.pad as isize, rows, scratch);
            isa.run(MonoWindows {
                k: g.k,
                window: g.window,
                x,
                dy: &dy[numbers.clone()],
                argmax: &argmax[numbers],
                dw,
                db,
            });
        }
    }
}

/// The contribution of some pooling windows; the input of the first one begins at the start of `x`.
struct MonoWindows<'a> {
    k: usize,
    window: usize,
    x: &'a [f32],
    dy: &'a [f32],
    argmax: &'a [u8],
    dw: &'a mut [f32],
    db: &'a mut [f32],
}

impl Kernel for MonoWindows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.k {
            3 => self.cells::<S, 3>(s),
            _ => self.cells::<S, 5>(s),
        }
    }
}

impl MonoWindows<'_> {
    #[inline(always)]
    fn cells<S: Simd, const K: usize>(self, s: S) {
        let MonoWindows { window, x, dy, argmax, dw, db, .. } = self;
        let c = db.len();
        let cells = dy.len() / c;
        assert!(
            window <= WIDEST_WINDOW
                && x.len() >= sum([product([window, cells]), WINDOW_MARGIN])
                && argmax.len() == dy.len()
                && dw.len() == product([K, c])
        );
        for j in (0..c).step_by(S::LANES) {
            let lanes = (c - j).min(S::LANES);
            let (mut sums, mut bias) = ([s.zero(); K], s.zero());
            for cell in 0..cells {
                // SAFETY: `lanes` channels of the cell from `j` on lie in `dy` and `argmax`, and 16 samples from the cell's first
                // sample on, which include all that its rows read, lie in `x`, as asserted above.
                unsafe {
                    let (dy, argmax) = (dy.as_ptr().add(cell * c + j), argmax.as_ptr().add(cell * c + j));
                    let (g, argmax) = (load_some(s, dy, lanes), s.load_argmax(argmax, lanes));
                    let g = s.select(s.argmax_eq(argmax, NO_GRADIENT), s.zero(), g);
                    let windows = s.lookup::<K>(x.as_ptr().add(window * cell), argmax);
                    bias = s.add(bias, g);
                    for (sum, x) in sums.iter_mut().zip(windows) {
                        *sum = s.fma(x, g, *sum);
                    }
                }
            }
            let add = |to: &mut [f32], sum: S::V| {
                // SAFETY: `to` holds the `lanes` numbers that are read.
                let old = unsafe { s.load_first(to.as_ptr(), lanes) };
                s.store_to(&mut to[..lanes], s.add(old, sum));
            };
            (0..K).for_each(|tap| add(&mut dw[tap * c + j..][..lanes], sums[tap]));
            add(&mut db[j..][..lanes], bias);
        }
    }
}
