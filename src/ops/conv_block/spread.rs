//! Floor 2. conv_block's backward-data from the sparse gradient that a pool leaves: every live cell of an output channel adds its
//! number times that channel's weights to one contiguous window of the input's gradient. Nothing is un-pooled or transformed,
//! and the sums are as exact as direct ones. Its time follows the share of cells that are alive, which is known only when the
//! gradient is there: where too many are, the dense convolution is faster ([`Geometry::spread_below`]).

use super::convolve::part;
use super::geometry::Geometry;
use super::weight::{cells, transpose};
use crate::simd::planes::Ahead;
use crate::simd::{Cells, Isa, SparseSpread};

/// Turns the weights, `[k, c_in, c_out]`, into `[c_out, k * c_in]`.
pub fn pack(g: &Geometry, weights: &[f32], packed: &mut [f32]) {
    transpose(&weights[..g.weights()], g.c_out, &mut packed[..g.weights()]);
}

/// `dx = ..` from the positions of a pooled gradient.
pub struct Spread<'a> {
    pub g: Geometry,
    pub dy: &'a [f32],
    pub at: &'a [u8],
    /// As [`pack`] makes them.
    pub packed: &'a [f32],
    pub dx: &'a mut [f32],
    /// As for [`PooledWeight::sparse`](super::weight::PooledWeight::sparse).
    pub scratch: &'a mut [f32],
}

impl Spread<'_> {
    pub fn run(self, isa: Isa) {
        let Spread { g, dy, at, packed, dx, scratch } = self;
        let Geometry { c_in, c_out, window, k, pad, .. } = g;
        let block = cells(&g);
        let mut cleared = 0;
        for first in (0..g.cells()).step_by(block) {
            let count = block.min(g.cells() - first);
            let rows = window * count + k - 1;
            let (from, before) = ((window * first).saturating_sub(pad), pad.saturating_sub(window * first));
            let end = (window * first + rows).saturating_sub(pad).min(g.l).max(cleared);
            let (now, later) = dx.split_at_mut(end * c_in);
            now[cleared * c_in..].fill(0.0);
            cleared = end;
            let (numbers, next) = (first * c_out..(first + count) * c_out, first + block);
            let read = [bytemuck::cast_slice(part(dy, c_out, next, block)), part(at, c_out, next, block), &[]];
            let ahead = Ahead { read, write: bytemuck::cast_slice(part(later, c_in, 0, window * block)) };
            let cells = Cells { dy: &dy[numbers.clone()], at: &at[numbers], count, window, row: c_in };
            let spread = |dx| isa.run(SparseSpread { cells, w: packed, outputs: c_out, dx, ahead });
            if before == 0 && from + rows == end {
                spread(&mut now[from * c_in..]);
                continue;
            }
            // The first and the last windows reach beyond the input.
            let sums = &mut scratch[..rows * c_in];
            sums.fill(0.0);
            spread(sums);
            let inside = now[from.min(end) * c_in..].iter_mut();
            inside.zip(&sums[before * c_in..]).for_each(|(dx, sum)| *dx += sum);
        }
        dx[cleared * c_in..].fill(0.0);
    }
}
