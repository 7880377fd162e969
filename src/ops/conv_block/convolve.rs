//! A convolution block by block: rows -> transform -> products -> transform back -> epilogue, or rows -> products ->
//! epilogue. A block's numbers stay in the L1 and L2 caches from its first row read to its last row written.

use super::geometry::{Algorithm, Convolution};
use crate::simd::planes::{PlaneProduct, Prefetch};
use crate::simd::transform::{Epilogue, InputTransform, MonoConvolution, OutputTransform, StoredRows};
use crate::simd::winograd::{FiveTaps, TAPS, TILE, ThreeTaps, Toom};
use crate::simd::{Isa, Kernel, Product, Simd, panels};
use std::marker::PhantomData;
use std::ops::Range;

/// The input of a convolution: rows in memory, or rows that are computed when they are needed.
pub trait Rows {
    /// Rows `first .. first + count`, with zeros outside; a slice of the stored rows, or `scratch`, which must be long enough.
    fn rows<'b>(&'b self, isa: Isa, first: isize, count: usize, scratch: &'b mut [f32]) -> &'b [f32];

    /// The memory that [`Rows::rows`] will read for `count` rows from row `first` on.
    fn memory(&self, first: usize, count: usize) -> [&[u8]; 3];
}

/// The rows `first .. first + count` of `all`, which has rows of `c` numbers; fewer where `all` ends.
pub fn rows_of<T>(all: &[T], c: usize, first: usize, count: usize) -> &[T] {
    let end = ((first + count) * c).min(all.len());
    &all[(first * c).min(end)..end]
}

/// Of `rows` of `c` numbers, the first of them row `first`, those outside `0 .. l` are cleared; which lie inside?
pub fn clear_outside(rows: &mut [f32], c: usize, first: isize, l: usize) -> std::ops::Range<usize> {
    let count = (rows.len() / c) as isize;
    let inside = (-first).clamp(0, count) as usize..(l as isize - first).clamp(0, count) as usize;
    rows[..inside.start * c].fill(0.0);
    rows[inside.end.max(inside.start) * c..].fill(0.0);
    inside
}

/// Rows in memory, `[l, c]`.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    pub x: &'a [f32],
    pub c: usize,
}

impl Rows for Stored<'_> {
    fn rows<'b>(&'b self, _isa: Isa, first: isize, count: usize, scratch: &'b mut [f32]) -> &'b [f32] {
        let (x, c) = (self.x, self.c);
        let l = x.len() / c;
        if first >= 0 && first + count as isize <= l as isize {
            return &x[first as usize * c..][..count * c];
        }
        let scratch = &mut scratch[..count * c];
        let inside = clear_outside(scratch, c, first, l);
        if !inside.is_empty() {
            let from = (first + inside.start as isize) as usize * c;
            scratch[inside.start * c..inside.end * c].copy_from_slice(&x[from..from + inside.len() * c]);
        }
        scratch
    }

    fn memory(&self, first: usize, count: usize) -> [&[u8]; 3] {
        [bytemuck::cast_slice(rows_of(self.x, self.c, first, count)), &[], &[]]
    }
}

/// Packs the weights of one convolution; `weight(tap, i, o)` are its own.
pub struct Pack<'a, W> {
    pub conv: Convolution,
    pub weight: W,
    pub packed: &'a mut [f32],
}

/// Outputs whose weights are transformed side by side: a whole number of them is in every panel, or a panel in them.
const SIDE: usize = 16;

impl<W: Fn(usize, usize, usize) -> f32> Kernel for Pack<'_, W> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Pack { conv, weight, packed } = self;
        let Convolution { c_in, c_out, algorithm, .. } = conv;
        if conv.is_mono() {
            for (tap, row) in packed.chunks_exact_mut(c_out).enumerate().take(conv.k) {
                row.iter_mut().enumerate().for_each(|(o, w)| *w = weight(tap, 0, o));
            }
            return;
        }
        if algorithm == Algorithm::Direct {
            Product::pack::<S>(packed, conv.k * c_in, c_out, |q, o| weight(q / c_in, q % c_in, o));
            return;
        }
        let depth = conv.segments() * c_in;
        let plane = Product::packed_len(depth, c_out);
        for panel in panels(S::LANES, S::TILE_VECTORS, c_out) {
            let width = panel.vectors * S::LANES;
            for (q, side) in (0..depth).flat_map(|q| (0..width).step_by(SIDE).map(move |side| (q, side))) {
                let mut taps = [[0.0; SIDE]; TAPS];
                let outputs = panel.outputs.saturating_sub(side).min(SIDE);
                for (tap, _, at) in conv.taps().filter(|&(_, segment, _)| segment == q / c_in) {
                    for (j, value) in taps[at][..outputs].iter_mut().enumerate() {
                        *value = f64::from(weight(tap, q % c_in, panel.first + side + j));
                    }
                }
                for product in 0..algorithm.products() {
                    // In double precision: each weight is rounded once.
                    let mut sums = [0.0; SIDE];
                    for (at, tap) in taps.iter().enumerate().take(algorithm.taps()) {
                        let g = algorithm.kernel(product, at);
                        if g != 0.0 {
                            sums.iter_mut().zip(tap).for_each(|(sum, w)| *sum += g * w);
                        }
                    }
                    let to = &mut packed[product * plane + depth * panel.offset + q * width + side..];
                    to.iter_mut().zip(sums).take(width - side).for_each(|(to, sum)| *to = sum as f32);
                }
            }
        }
    }
}

/// The convolution of `source` with `packed` weights, to `epilogue`.
pub struct Convolve<'a, R, E> {
    pub conv: Convolution,
    /// The rows to make; the first is a multiple of the rows of a block, or of [`GROUP`](crate::simd::transform::GROUP).
    pub rows: Range<usize>,
    pub packed: &'a [f32],
    pub source: &'a R,
    pub epilogue: &'a mut E,
    pub scratch: &'a mut [f32],
}

impl<R: Rows, E: Epilogue> Convolve<'_, R, E> {
    pub fn run(self, isa: Isa) {
        match self.conv.algorithm {
            Algorithm::Direct => self.direct(isa),
            Algorithm::ThreeTaps => self.fast::<ThreeTaps>(isa),
            Algorithm::FiveTaps => self.fast::<FiveTaps>(isa),
        }
    }

    fn fast<F: Toom>(self, isa: Isa) {
        let Convolve { conv, rows: all, packed, source, epilogue, scratch } = self;
        let Convolution { c_in, c_out, .. } = conv;
        let (v_planes, m_planes) = conv.planes();
        let (v, scratch) = scratch.split_at_mut(v_planes.len(F::PRODUCTS));
        let (m, scratch) = scratch.split_at_mut(m_planes.len(F::PRODUCTS));
        let (segments, step, stride) = (conv.segments(), conv.tile_step(), conv.tile_stride());
        for first in all.clone().step_by(conv.block_rows()) {
            let rows = conv.block_rows().min(all.end - first);
            let tiles = rows.div_ceil(TILE);
            let x = source.rows(isa, first as isize - conv.pad as isize, conv.rows_read(rows), scratch);
            let algorithm = PhantomData::<F>;
            let tiles_in = conv.tiles_in(tiles);
            isa.run(InputTransform { x, c: c_in, step, tiles: tiles_in, v, planes: v_planes, algorithm });
            let read = source.memory(first + conv.block_rows(), conv.block_rows());
            isa.run(PlaneProduct {
                v,
                v_planes,
                segments,
                stride,
                inner: c_in,
                packed,
                m,
                m_planes,
                outputs: c_out,
                tiles,
                planes: F::PRODUCTS,
                prefetch: Prefetch { read, write: epilogue.writes(first, rows) },
            });
            isa.run(OutputTransform { m, planes: m_planes, c: c_out, first, rows, epilogue, algorithm });
        }
    }

    fn direct(self, isa: Isa) {
        let Convolve { conv, rows: all, packed, source, epilogue, scratch } = self;
        let Convolution { c_in, c_out, k, stride, .. } = conv;
        let (z, scratch) = scratch.split_at_mut((conv.block_rows() * c_out).next_multiple_of(16));
        for first in all.clone().step_by(conv.block_rows()) {
            let rows = conv.block_rows().min(all.end - first);
            let from = (first * stride) as isize - conv.pad as isize;
            let a = source.rows(isa, from, conv.rows_read(rows), scratch);
            if conv.is_mono() {
                isa.run(MonoConvolution { x: a, w: packed, k, c: c_out, first, rows, epilogue });
                continue;
            }
            isa.run(Product {
                a,
                row_stride: stride * c_in,
                taps: 1,
                tap_stride: 0,
                inner: k * c_in,
                packed,
                init: &[],
                c: z,
                c_stride: c_out,
                outputs: c_out,
                rows,
            });
            isa.run(StoredRows { z, c: c_out, first, rows, epilogue });
        }
    }
}
