//! backward-weight of conv_block from dense rows of the gradient, with a Toom-Cook algorithm or directly. From the sparse gradient of a max pool:
//! `pooled_weight.rs`.
#![allow(unsafe_code)] // reason: vectors are loaded and stored through pointers; lengths are asserted at entry

use super::convolve::{Rows, Stored};
use super::forward::NO_GRADIENT;
use super::geometry::{Algorithm, Convolution};
use super::gradient::Unpooled;
use crate::simd::planes::{PlaneUpdate, Prefetch};
use crate::simd::transform::{GradientTransform, InputTransform, load_some};
use crate::simd::winograd::{FiveTapSums, PRODUCTS, TILE, ThreeTaps, Toom};
use crate::simd::{Isa, Kernel, RankUpdate, Simd, product};
use std::marker::PhantomData;
use std::ops::Range;

/// Adds to `dw` from dense rows of the gradient, some rows per call.
pub struct DenseWeight<'a> {
    /// The forward convolution, with the algorithm to use here.
    pub conv: Convolution,
    pub x: &'a [f32],
    /// `[k, c_in, c_out]`.
    pub dw: &'a mut [f32],
    /// Sums of products, plane by plane; [`sums_len`] is the length. The block of row 0 assigns them, later blocks add to them.
    pub sums: &'a mut [f32],
}

/// Rows of a block of the direct algorithm: those of input and gradient stay in the L1 cache while all register tiles read them.
pub const DIRECT_ROWS: usize = 72;

/// The length of [`DenseWeight::sums`].
pub fn sums_len(conv: &Convolution) -> usize {
    (conv.algorithm.products_of_sums() * conv.segments() * conv.c_in * conv.c_out).next_multiple_of(16)
}

/// The length of the scratch memory of [`DenseWeight::add`].
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
    /// Adds the contribution of the rows `rows` of `dz`, the gradient of the convolution's output. The first call begins with row 0,
    /// every other call with the row at which the previous one ended.
    pub fn add(&mut self, isa: Isa, dz: &impl Rows, rows: Range<usize>, scratch: &mut [f32]) {
        match self.conv.algorithm {
            Algorithm::Direct => self.direct(isa, dz, rows, scratch),
            Algorithm::ThreeTaps => self.fast::<ThreeTaps>(isa, dz, rows, scratch),
            Algorithm::FiveTaps => self.fast::<FiveTapSums>(isa, dz, rows, scratch),
        }
    }

    /// Called after the last row: transforms the sums and adds them to `dw`.
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

/// `dw += G^T sums`. **Registers** the sums of products of one vector of weights, the sum of a tap, a constant.
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
                        // The first tap of a later segment is the last tap of the previous segment, and was added there.
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

/// Adds to `db` the gradient of the block's output, summed over the rows where it passes ReLU.
pub struct BiasSums<'a> {
    pub dz: &'a Unpooled<'a>,
    pub db: &'a mut [f32],
}

/// Rows of the output whose gradients are summed in registers and then added to `db`.
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
    /// Sums `V` vectors of `lanes` channels from channel `j` on; returns the number of these channels. There are many vectors so that
    /// memory is read in order. **Registers** `V` sums, a gradient, the mask of lanes without a gradient.
    ///
    /// # Safety
    /// These channels exist in every cell and in `db`.
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
