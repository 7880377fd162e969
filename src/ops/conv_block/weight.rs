//! conv_block's backward-weight: from the sparse gradient that a pool leaves, or from dense rows, by transforms or
//! directly.
#![allow(unsafe_code)] // reason: whole vectors go through pointers; lengths are asserted at entry

use super::WIDEST_WINDOW;
use super::convolve::{Rows, Stored, rows_of};
use super::forward::NO_GRADIENT;
use super::geometry::{Algorithm, Convolution, Geometry};
use super::gradient::Unpooled;
use crate::simd::planes::{PlaneUpdate, Prefetch};
use crate::simd::transform::{GradientTransform, InputTransform, load_some};
use crate::simd::winograd::{FiveTapSums, PRODUCTS, TILE, ThreeTaps, Toom};
use crate::simd::{Isa, Kernel, PooledGradient, RankUpdate, Simd, SparseUpdate, product, sum};
use std::marker::PhantomData;
use std::ops::Range;

/// `dw += ..` from rows of the gradient, some at a time.
pub struct DenseWeight<'a> {
    /// The forward convolution, with the algorithm to use here.
    pub conv: Convolution,
    pub x: &'a [f32],
    /// `[k, c_in, c_out]`.
    pub dw: &'a mut [f32],
    /// Sums of products, plane by plane: as many as [`sums_len`] says. They are assigned by the rows from row 0 on.
    pub sums: &'a mut [f32],
}

/// Rows of a block of the direct update: those of input and gradient stay in the L1 cache under all register tiles.
pub const DIRECT_ROWS: usize = 72;

/// Numbers of [`DenseWeight::sums`].
pub fn sums_len(conv: &Convolution) -> usize {
    (conv.algorithm.products_of_sums() * conv.segments() * conv.c_in * conv.c_out).next_multiple_of(16)
}

/// Numbers of scratch for [`DenseWeight::add`].
pub fn dense_scratch(conv: &Convolution) -> usize {
    let round = |numbers: usize| numbers.next_multiple_of(16);
    if conv.algorithm == Algorithm::Direct {
        return round((DIRECT_ROWS + conv.k - 1) * conv.c_in) + round(DIRECT_ROWS * conv.c_out);
    }
    let (v, z) = conv.update_planes();
    let planes = conv.algorithm.products_of_sums();
    let rows = conv.rows_read(conv.update_rows()) * conv.c_in;
    let gradient = conv.update_rows() * conv.c_out;
    v.len(planes) + z.len(planes) + round(rows.max(gradient))
}

impl DenseWeight<'_> {
    /// Adds what the `rows` of the gradient `dz` of the convolution's output give; the first is row 0, or where the call
    /// before ended.
    pub fn add(&mut self, isa: Isa, dz: &impl Rows, rows: Range<usize>, scratch: &mut [f32]) {
        match self.conv.algorithm {
            Algorithm::Direct => self.direct(isa, dz, rows, scratch),
            Algorithm::ThreeTaps => self.fast::<ThreeTaps>(isa, dz, rows, scratch),
            Algorithm::FiveTaps => self.fast::<FiveTapSums>(isa, dz, rows, scratch),
        }
    }

    /// After the last row: brings the sums into `dw`.
    pub fn finish(self, isa: Isa) {
        let DenseWeight { conv, dw, sums, .. } = self;
        match conv.algorithm {
            Algorithm::Direct => {}
            Algorithm::ThreeTaps => isa.run(TapSums { conv, sums, dw, algorithm: PhantomData::<ThreeTaps> }),
            Algorithm::FiveTaps => isa.run(TapSums { conv, sums, dw, algorithm: PhantomData::<FiveTapSums> }),
        }
    }

    fn direct(&mut self, isa: Isa, dz: &impl Rows, all: Range<usize>, scratch: &mut [f32]) {
        let Convolution { c_in, c_out, k, pad, .. } = self.conv;
        let (x_rows, dz_rows) = scratch.split_at_mut(((DIRECT_ROWS + k - 1) * c_in).next_multiple_of(16));
        let x = Stored { x: self.x, c: c_in };
        for first in all.clone().step_by(DIRECT_ROWS) {
            let rows = DIRECT_ROWS.min(all.end - first);
            isa.run(RankUpdate {
                a: x.rows(isa, first as isize - pad as isize, rows + k - 1, x_rows),
                a_stride: c_in,
                b: dz.rows(isa, first as isize, rows, dz_rows),
                b_stride: c_out,
                positions: rows,
                c: self.dw,
                fresh: false,
                m: k * c_in,
                outputs: c_out,
            });
        }
    }

    fn fast<F: Toom>(&mut self, isa: Isa, dz: &impl Rows, all: Range<usize>, scratch: &mut [f32]) {
        let conv = self.conv;
        let Convolution { c_in, c_out, .. } = conv;
        let (segments, step, stride) = (conv.segments(), conv.tile_step(), conv.tile_stride());
        let (v_planes, z_planes) = conv.update_planes();
        let (v, scratch) = scratch.split_at_mut(v_planes.len(F::PRODUCTS));
        let (z, scratch) = scratch.split_at_mut(z_planes.len(F::PRODUCTS));
        let x = Stored { x: self.x, c: c_in };
        let algorithm = PhantomData::<F>;
        for first in all.clone().step_by(conv.update_rows()) {
            let rows = conv.update_rows().min(all.end - first);
            let tiles = rows.div_ceil(TILE);
            let from = first as isize - conv.pad as isize;
            let rows_in = x.rows(isa, from, conv.rows_read(rows), scratch);
            let tiles_in = conv.tiles_in(tiles);
            isa.run(InputTransform { x: rows_in, c: c_in, step, tiles: tiles_in, v, planes: v_planes, algorithm });
            let dy = dz.rows(isa, first as isize, TILE * tiles, scratch);
            isa.run(GradientTransform { dy, c: c_out, tiles, z, planes: z_planes, algorithm });
            let next = first + conv.update_rows();
            let [dy, argmax, y] = dz.memory(next, conv.update_rows());
            let soon = x.memory(next, conv.block_rows())[0];
            isa.run(PlaneUpdate {
                fresh: first == 0,
                v,
                v_planes,
                segments,
                stride,
                inner: c_in,
                z,
                z_planes,
                du: self.sums,
                outputs: c_out,
                tiles,
                planes: F::PRODUCTS,
                prefetch: Prefetch { read: [soon, dy, argmax], write: y },
            });
        }
    }
}

/// `dw += G^T sums`. **Registers** the products of one vector of weights, a tap's sum, a constant.
struct TapSums<'a, F> {
    conv: Convolution,
    sums: &'a [f32],
    dw: &'a mut [f32],
    algorithm: PhantomData<F>,
}

impl<F: Toom> Kernel for TapSums<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let TapSums { conv, sums, dw, .. } = self;
        let of_tap = product([conv.c_in, conv.c_out]);
        let plane = product([conv.segments(), of_tap]);
        assert!(sums.len() >= product([F::PRODUCTS, plane]) && dw.len() == product([conv.k, of_tap]));
        for segment in 0..conv.segments() {
            for i in (0..of_tap).step_by(S::LANES) {
                let lanes = (of_tap - i).min(S::LANES);
                // SAFETY: weights `i .. i + lanes` of the segment lie in every plane's sums and in every tap of `dw`, as
                // asserted above; the taps are the convolution's.
                unsafe {
                    let from = sums.as_ptr().add(segment * of_tap + i);
                    let load =
                        |from: *const f32| if lanes == S::LANES { s.load(from) } else { s.load_first(from, lanes) };
                    let mut products = [s.zero(); PRODUCTS];
                    (0..F::PRODUCTS).for_each(|p| products[p] = load(from.add(p * plane)));
                    for at in 0..F::TAPS {
                        let tap = segment * (F::TAPS - 1) + at;
                        // The first tap of a later segment is the last of the one before.
                        if tap >= conv.k || (segment > 0 && at == 0) {
                            continue;
                        }
                        let mut sum = s.zero();
                        for (product, row) in products.iter().zip(F::TABLE.kernel) {
                            if row[at] != 0.0 {
                                sum = s.fma(s.splat(row[at] as f32), *product, sum);
                            }
                        }
                        let to = dw.as_mut_ptr().add(tap * of_tap + i);
                        let total = s.add(load(to), sum);
                        if lanes == S::LANES { s.store(to, total) } else { s.store_first(to, lanes, total) }
                    }
                }
            }
        }
    }
}

/// `dw += ..` and `db += ..` from the argmax of a pooled gradient.
pub struct PooledWeight<'a> {
    pub g: Geometry,
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub argmax: &'a [u8],
    pub dw: &'a mut [f32],
    pub db: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

/// Numbers of input that a block of [`PooledWeight::sparse`] reads: more than half of an L1 cache of 32 KiB, and not so many
/// that the sums, which pass through it once a block, push them out.
const SPARSE_NUMBERS: usize = 5 * 1024;
/// Fewest cells of a block, even where its rows then come from the L2 cache: sums are read and written once a block, and an
/// output's windows with a non-zero gradient make a loop that ends sooner than the processor foresees.
const FEWEST_CELLS: usize = 24;

/// PooledGradient of a block.
pub fn cells(g: &Geometry) -> usize {
    let rows = (SPARSE_NUMBERS / g.c_in).saturating_sub(g.k - 1);
    (rows / g.window).clamp(FEWEST_CELLS, PooledGradient::MAX_WINDOWS)
}

/// Numbers of scratch for [`PooledWeight::sparse`] and [`reorder_gradients`].
pub fn sparse_scratch(g: &Geometry) -> usize {
    g.weights().max((g.window * cells(g) + g.k - 1) * g.c_in).next_multiple_of(16)
}

impl PooledWeight<'_> {
    /// Every cell of an output channel adds its number times one contiguous window of the input. `dw` is
    /// `[c_out, k * c_in]` here, until [`reorder_gradients`] is called.
    pub fn sparse(self, isa: Isa) {
        let PooledWeight { g, x, dy, argmax, dw, db, scratch } = self;
        let Geometry { c_in, c_out, window, k, .. } = g;
        let block = cells(&g);
        let x = Stored { x, c: c_in };
        for first in (0..g.cells()).step_by(block) {
            let count = block.min(g.cells() - first);
            let numbers = first * c_out..(first + count) * c_out;
            let next = first + block;
            let rows = x.memory(next * window, window * block)[0];
            let read =
                [rows, bytemuck::cast_slice(rows_of(dy, c_out, next, block)), rows_of(argmax, c_out, next, block)];
            isa.run(SparseUpdate {
                gradient: PooledGradient {
                    dy: &dy[numbers.clone()],
                    argmax: &argmax[numbers],
                    count,
                    window,
                    row: c_in,
                },
                x: x.rows(isa, (window * first) as isize - g.pad as isize, window * count + k - 1, scratch),
                c: dw,
                db,
                width: k * c_in,
                prefetch: Prefetch { read, write: &[] },
            });
        }
    }
}

/// Turns the sums that [`PooledWeight::sparse`] leaves, `[c_out, k * c_in]`, into the order of the weights.
pub fn reorder_gradients(g: &Geometry, dw: &mut [f32], scratch: &mut [f32]) {
    let sums = &mut scratch[..dw.len()];
    sums.copy_from_slice(dw);
    transpose(sums, g.k * g.c_in, dw);
}

/// Rows of `columns` numbers to columns. Written in the order of memory, while a cache line's worth of columns of what is read
/// stays in the L1 cache. Not a kernel: compiled for AVX-512 it would gather its numbers, a lane at a time.
pub fn transpose(from: &[f32], columns: usize, to: &mut [f32]) {
    let rows = from.len() / columns;
    for (column, to) in to.chunks_exact_mut(rows).enumerate() {
        for (to, number) in to.iter_mut().zip(from[column..].iter().step_by(columns)) {
            *to = *number;
        }
    }
}

/// PooledGradient whose sums are taken before they join the total.
const MONO_CELLS: usize = 128;

/// Samples behind the last cell that are read, though none of them counts: a whole vector from its first sample on.
const WINDOW_MARGIN: usize = 16;

/// Numbers of scratch for [`PooledWeight::single`].
pub fn mono_scratch(g: &Geometry) -> usize {
    g.window * MONO_CELLS + WINDOW_MARGIN
}

impl PooledWeight<'_> {
    /// For one input channel and few taps: a window of the input is too short for vectors, which lie along the outputs
    /// instead; each lane picks its samples from one vector. **Registers** `K` sums and the bias's, the window,
    /// places, `K` picked vectors.
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

/// The share of some cells, whose first window begins at the start of `x`.
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
                // SAFETY: `lanes` channels from `j` on of the cell lie in `dy` and `argmax`, and 16 samples from its first on,
                // which hold all that its windows read, in `x`, as asserted above.
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

/// `db += ` the sum of the output's gradient where it counts.
pub struct BiasSums<'a> {
    pub dz: &'a Unpooled<'a>,
    pub db: &'a mut [f32],
}

/// PooledGradient whose sum is taken before it joins the total.
const SUM_CELLS: usize = 64;

impl Kernel for BiasSums<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (g, c) = (self.dz.g, self.db.len());
        let (dy, argmax, y) = (self.dz.dy, self.dz.argmax, self.dz.y);
        assert!(dy.len().is_multiple_of(c) && dy.len() == if g.window == 1 { y.len() } else { argmax.len() });
        for first in (0..dy.len()).step_by(SUM_CELLS * c) {
            let cells = (first..(first + SUM_CELLS * c).min(dy.len())).step_by(c);
            let mut j = 0;
            while j < c {
                // SAFETY: `lanes` channels from `j` on of every cell lie in `dy`, in `y` or `argmax` (asserted), and in `db`.
                j += unsafe {
                    match (c - j) / S::LANES {
                        8.. => self.channels::<S, 8>(s, cells.clone(), j, S::LANES),
                        4.. => self.channels::<S, 4>(s, cells.clone(), j, S::LANES),
                        1.. => self.channels::<S, 1>(s, cells.clone(), j, S::LANES),
                        0 => self.channels::<S, 1>(s, cells.clone(), j, c - j),
                    }
                };
            }
        }
    }
}

impl BiasSums<'_> {
    /// `V` vectors of `lanes` channels from `j` on; returns how many channels these are. Many side by side, so that memory is
    /// read in its order. **Registers** `V` sums, a gradient, what tells whether it counts.
    ///
    /// # Safety
    /// These channels are among those of every cell and of the bias.
    #[inline(always)]
    unsafe fn channels<S: Simd, const V: usize>(
        &mut self,
        s: S,
        cells: impl Iterator<Item = usize>,
        j: usize,
        lanes: usize,
    ) -> usize {
        let &Unpooled { g, dy, argmax, y } = self.dz;
        let mut sums = [s.zero(); V];
        for cell in cells {
            for (v, sum) in sums.iter_mut().enumerate() {
                let number = cell + j + v * S::LANES;
                // SAFETY: the caller's contract.
                unsafe {
                    let g_cell = load_some(s, dy.as_ptr().add(number), lanes);
                    let without = if g.window == 1 {
                        s.le(load_some(s, y.as_ptr().add(number), lanes), s.zero())
                    } else {
                        s.argmax_eq(s.load_argmax(argmax.as_ptr().add(number), lanes), NO_GRADIENT)
                    };
                    *sum = s.add(*sum, s.select(without, s.zero(), g_cell));
                }
            }
        }
        for (v, sum) in sums.into_iter().enumerate() {
            let to = &mut self.db[j + v * S::LANES..][..lanes];
            // SAFETY: `to` holds the `lanes` numbers that are read.
            let old = unsafe { load_some(s, to.as_ptr(), lanes) };
            s.store_to(to, s.add(old, sum));
        }
        V * lanes
    }
}
