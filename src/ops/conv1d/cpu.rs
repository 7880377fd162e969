//! conv1d on the CPU: the three passes, each made of register tiles over overlapping rows.
//!
//! With channels last, the `k * c_in` inputs of an output row are contiguous (with dilation, the `c_in` inputs of each tap), so
//! every pass is a matrix product over overlapping rows, without a copy. Only where windows reach into the padding, at both ends,
//! are the inputs copied to scratch memory, with zeros in place of the padding.

use super::Geometry;
use super::windows::{forward_windows, gcd, residues};
use crate::simd::{Isa, Kernel, Product, RankUpdate, Simd, Windows};
use std::ops::Range;

/// The largest number of output rows whose windows are copied to scratch memory at once.
const EDGE_ROWS: usize = 32;
/// The smallest number of output rows at an end that is copied: the rows of the largest register tile of any instruction set.
const TILE_ROWS: usize = 12;
/// Output rows of one block of backward-weight: its rows of `x` and `dy` stay in the L1 cache while all register tiles read them.
const BLOCK_POSITIONS: usize = 64;

impl Windows {
    /// Those of `count` output rows whose windows lie inside the input, without the rows that give both ends [`TILE_ROWS`] rows.
    fn interior(&self, count: usize) -> Range<usize> {
        let step = self.step as isize;
        let first = (-self.origin).max(0).div_ceil_by(step);
        let last = self.rows as isize - self.span() as isize - self.origin;
        let end = if last < 0 { 0 } else { (last / step + 1).min(count as isize) };
        let first = if first > 0 { first.max(TILE_ROWS as isize) } else { 0 };
        let end = if end < count as isize { end.min(count as isize - TILE_ROWS as isize) } else { end };
        if first < end { first as usize..end as usize } else { 0..0 }
    }

    /// Those of `count` output rows that are not in `interior`, in pieces of at most [`EDGE_ROWS`].
    fn edges(interior: &Range<usize>, count: usize) -> impl Iterator<Item = Range<usize>> {
        let pieces = |range: Range<usize>| {
            let end = range.end;
            range.step_by(EDGE_ROWS).map(move |from| from..(from + EDGE_ROWS).min(end))
        };
        let (front, back) =
            if interior.is_empty() { (0..0, 0..count) } else { (0..interior.start, interior.end..count) };
        pieces(front).chain(pieces(back))
    }

    /// Copies the input rows of `width` numbers that the output rows `piece` read to `scratch`, with zeros for the padding.
    fn copy<'a>(&self, x: &[f32], width: usize, piece: &Range<usize>, scratch: &'a mut [f32]) -> &'a [f32] {
        let first = self.origin + (piece.start * self.step) as isize;
        let rows = (piece.len() - 1) * self.step + self.span();
        let scratch = &mut scratch[..rows * width];
        let inside =
            (-first).clamp(0, rows as isize) as usize..(self.rows as isize - first).clamp(0, rows as isize) as usize;
        if inside.is_empty() {
            scratch.fill(0.0);
            return scratch;
        }
        scratch[..inside.start * width].fill(0.0);
        scratch[inside.end * width..].fill(0.0);
        let from = (first + inside.start as isize) as usize * width;
        scratch[inside.start * width..inside.end * width].copy_from_slice(&x[from..from + inside.len() * width]);
        scratch
    }

    fn scratch(&self, count: usize, width: usize) -> usize {
        ((count.clamp(1, EDGE_ROWS) - 1) * self.step + self.span()).saturating_mul(width)
    }
}

trait DivCeil {
    fn div_ceil_by(self, by: isize) -> isize;
}

impl DivCeil for isize {
    /// The quotient, rounded up; `self` must not be negative.
    fn div_ceil_by(self, by: isize) -> isize {
        (self + by - 1) / by
    }
}

/// Numbers of scratch memory, enough for each pass.
pub fn scratch(g: &Geometry) -> usize {
    let forward = forward_windows(g).scratch(g.l_out, g.c_in);
    // The longest span of a residue: it has at most `(k - 1) / tap_step + 1` taps.
    let tap_step = g.stride / gcd(g.stride, g.dilation);
    let span = (g.k - 1) / tap_step * (tap_step * g.dilation / g.stride) + 1;
    forward.max((EDGE_ROWS - 1 + span).saturating_mul(g.c_out))
}

/// Packs the weights for the forward pass and, after them, those for backward-data, residue by residue.
pub struct Pack<'a> {
    pub g: Geometry,
    pub w: &'a [f32],
    pub packed: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let g = self.g;
        let (forward, mut backward) = self.packed.split_at_mut(g.packed_forward());
        Product::pack::<S>(forward, g.k * g.c_in, g.c_out, |q, o| self.w[q * g.c_out + o]);
        for residue in residues(&g) {
            let depth = residue.windows.taps * g.c_out;
            let (packed, rest) = std::mem::take(&mut backward).split_at_mut(Product::packed_len(depth, g.c_in));
            Product::pack::<S>(packed, depth, g.c_in, |q, i| {
                let tap = residue.last_tap - q / g.c_out * residue.tap_step;
                self.w[(tap * g.c_in + i) * g.c_out + q % g.c_out]
            });
            backward = rest;
        }
    }
}

/// The product of windows and packed weights. Windows inside the input are read in place, those at the ends from a copy in `scratch`.
struct WindowProduct<'a> {
    windows: Windows,
    x: &'a [f32],
    width: usize,
    packed: &'a [f32],
    init: &'a [f32],
    y: &'a mut [f32],
    y_stride: usize,
    outputs: usize,
    count: usize,
    scratch: &'a mut [f32],
}

impl WindowProduct<'_> {
    fn run(mut self, isa: Isa) {
        let w = self.windows;
        let interior = w.interior(self.count);
        if !interior.is_empty() {
            let from = (w.origin + (interior.start * w.step) as isize) as usize;
            self.rows(isa, &self.x[from * self.width..], interior.clone());
        }
        let scratch = std::mem::take(&mut self.scratch);
        for piece in Windows::edges(&interior, self.count) {
            let a = w.copy(self.x, self.width, &piece, scratch);
            self.rows(isa, a, piece);
        }
    }

    /// Computes the output rows `rows`; the window of the first one begins at the start of `a`.
    fn rows(&mut self, isa: Isa, a: &[f32], rows: Range<usize>) {
        let Windows { step, taps, tap_step, .. } = self.windows;
        // Taps without rows between them are computed as one long tap.
        let joined = tap_step == 1 || taps == 1;
        isa.run(Product {
            a,
            row_stride: step * self.width,
            taps: if joined { 1 } else { taps },
            tap_stride: tap_step * self.width,
            inner: if joined { taps * self.width } else { self.width },
            packed: self.packed,
            init: self.init,
            c: &mut self.y[rows.start * self.y_stride..],
            c_stride: self.y_stride,
            outputs: self.outputs,
            rows: rows.len(),
        });
    }
}

/// `y = conv(x) + bias`.
pub struct Conv1dForward<'a> {
    pub g: Geometry,
    pub x: &'a [f32],
    pub packed: &'a [f32],
    /// Empty without bias.
    pub bias: &'a [f32],
    pub y: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

impl Conv1dForward<'_> {
    pub fn run(self, isa: Isa) {
        WindowProduct {
            windows: forward_windows(&self.g),
            x: self.x,
            width: self.g.c_in,
            packed: self.packed,
            init: self.bias,
            y: self.y,
            y_stride: self.g.c_out,
            outputs: self.g.c_out,
            count: self.g.l_out,
            scratch: self.scratch,
        }
        .run(isa);
    }
}

/// `dx`: a convolution of `dy` with flipped taps, and with input and output channels exchanged.
pub struct Conv1dBackwardData<'a> {
    pub g: Geometry,
    pub dy: &'a [f32],
    pub packed: &'a [f32],
    pub dx: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

impl Conv1dBackwardData<'_> {
    pub fn run(self, isa: Isa) {
        let g = self.g;
        let mut packed = &self.packed[g.packed_forward()..];
        if g.stride > g.l_in {
            self.dx.fill(0.0); // each row is assigned below as well, by its residue
        }
        for residue in residues(&g) {
            let y = &mut self.dx[residue.first * g.c_in..];
            if residue.windows.taps == 0 {
                y.chunks_mut(g.stride * g.c_in).for_each(|rows| rows[..g.c_in].fill(0.0));
                continue;
            }
            let len = Product::packed_len(residue.windows.taps * g.c_out, g.c_in);
            WindowProduct {
                windows: residue.windows,
                x: self.dy,
                width: g.c_out,
                packed: &packed[..len],
                init: &[],
                y,
                y_stride: g.stride * g.c_in,
                outputs: g.c_in,
                count: residue.count,
                scratch: self.scratch,
            }
            .run(isa);
            packed = &packed[len..];
        }
    }
}

/// Adds to `dw` and `db`, by the formulas at the head of `mod.rs`.
pub struct Conv1dBackwardWeight<'a> {
    pub g: Geometry,
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub dw: &'a mut [f32],
    /// Empty without bias.
    pub db: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

impl Conv1dBackwardWeight<'_> {
    pub fn run(mut self, isa: Isa) {
        let g = self.g;
        let w = forward_windows(&g);
        let interior = w.interior(g.l_out);
        for block in interior.clone().step_by(BLOCK_POSITIONS) {
            let block = block..(block + BLOCK_POSITIONS).min(interior.end);
            let from = (w.origin + (block.start * w.step) as isize) as usize;
            self.block(isa, &self.x[from * g.c_in..], block);
        }
        let scratch = std::mem::take(&mut self.scratch);
        for piece in Windows::edges(&interior, g.l_out) {
            let x = w.copy(self.x, g.c_in, &piece, scratch);
            self.block(isa, x, piece);
        }
    }
}

impl Conv1dBackwardWeight<'_> {
    /// Adds the contribution of the output rows `block`; the window of the first one begins at the start of `x`.
    fn block(&mut self, isa: Isa, x: &[f32], block: Range<usize>) {
        let g = self.g;
        let dy = &self.dy[block.start * g.c_out..block.end * g.c_out];
        let (taps, m) = if g.dilation == 1 { (1, g.k * g.c_in) } else { (g.k, g.c_in) };
        for tap in 0..taps {
            isa.run(RankUpdate {
                a: &x[tap * g.dilation * g.c_in..],
                a_stride: g.stride * g.c_in,
                b: dy,
                b_stride: g.c_out,
                positions: block.len(),
                c: &mut self.dw[tap * g.c_in * g.c_out..],
                fresh: false,
                m,
                outputs: g.c_out,
            });
        }
        if !self.db.is_empty() {
            // The bias is the weight of an input that is always one.
            isa.run(RankUpdate {
                a: &[1.0],
                a_stride: 0,
                b: dy,
                b_stride: g.c_out,
                positions: block.len(),
                c: self.db,
                fresh: false,
                m: 1,
                outputs: g.c_out,
            });
        }
    }
}
