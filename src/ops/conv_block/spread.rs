//! conv_block's backward-data from the sparse gradient that a pool leaves: every window with a non-zero gradient adds, for its output channel, its
//! gradient times that channel's weights to one contiguous window of the input's gradient. Nothing is un-pooled or transformed,
//! and the sums are as exact as direct ones. Its time is proportional to the share of windows with a non-zero gradient, which is known only when the
//! gradient is there: where too many are, the dense convolution is faster ([`Geometry::spread_below`]).

use super::convolve::rows_of;
use super::geometry::Geometry;
use super::pooled_weight::{cells, transpose};
use crate::simd::planes::Prefetch;
use crate::simd::{Isa, PooledGradient, SparseSpread};

/// Turns the weights, `[k, c_in, c_out]`, into `[c_out, k * c_in]`.
pub fn pack(g: &Geometry, weights: &[f32], packed: &mut [f32]) {
    transpose(&weights[..g.weights()], g.c_out, &mut packed[..g.weights()]);
}

/// `dx = ..` from the positions of a pooled gradient.
pub struct Spread<'a> {
    pub g: Geometry,
    pub dy: &'a [f32],
    pub argmax: &'a [u8],
    /// As [`pack`] makes them.
    pub packed: &'a [f32],
    pub dx: &'a mut [f32],
    /// As for [`PooledWeight::sparse`](super::pooled_weight::PooledWeight::sparse).
    pub scratch: &'a mut [f32],
}

impl Spread<'_> {
    pub fn run(self, isa: Isa) {
        let Spread { g, dy, argmax, packed, dx, scratch } = self;
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
            let read =
                [bytemuck::cast_slice(rows_of(dy, c_out, next, block)), rows_of(argmax, c_out, next, block), &[]];
            let prefetch = Prefetch { read, write: bytemuck::cast_slice(rows_of(later, c_in, 0, window * block)) };
            let gradient =
                PooledGradient { dy: &dy[numbers.clone()], argmax: &argmax[numbers], count, window, row: c_in };
            let spread = |dx| isa.run(SparseSpread { gradient, w: packed, outputs: c_out, dx, prefetch });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{Key, Stream};
    use crate::ops::ConvChoice;
    use crate::ops::conv_block::{forward::NO_GRADIENT, pooled_weight::sparse_scratch};

    /// `dx` by definition, in double precision.
    fn by_definition(g: &Geometry, dy: &[f32], argmax: &[u8], w: &[f32]) -> Vec<f64> {
        let mut dx = vec![0.0; g.l * g.c_in];
        for (number, &argmax) in argmax.iter().enumerate().filter(|&(_, &argmax)| usize::from(argmax) < g.window) {
            let (row, o) = (number / g.c_out * g.window + usize::from(argmax), number % g.c_out);
            for (tap, i) in (0..g.k).flat_map(|tap| (0..g.c_in).map(move |i| (tap, i))) {
                if let Some(l) = (row + tap).checked_sub(g.pad).filter(|&l| l < g.l) {
                    dx[l * g.c_in + i] += f64::from(dy[number]) * f64::from(w[(tap * g.c_in + i) * g.c_out + o]);
                }
            }
        }
        dx
    }

    #[test]
    fn for_any_share_of_zero_gradients_every_instruction_set_meets_the_definition_with_the_same_bits() {
        // Taps, zeros in front, rows, window, channels in and out: blocks full, cut and single, input shorter than a window.
        let geometries = [
            (5, 2, 301, 3, 33, 7),
            (25, 0, 460, 4, 8, 16),
            (3, 1, 97, 2, 5, 4),
            (9, 8, 40, 3, 17, 3),
            (5, 2, 7, 3, 1, 2),
            (1, 0, 50, 2, 9, 1),
            (25, 12, 6, 4, 3, 5),
            (5, 2, 120, 3, 200, 2),
        ];
        for (number, (k, pad, l, window, c_in, c_out)) in geometries.into_iter().enumerate() {
            let choice = ConvChoice::Auto;
            // As many zeros after the input as before it.
            let l_out = l + 2 * pad + 1 - k.min(l + 2 * pad);
            let g = Geometry { l, c_in, l_out, c_out, k, stride: 1, pad, window, ceil: true, choice };
            let key = Key::new(number as u64, Stream::Case);
            let normal =
                |of: u64, len: usize| -> Vec<f32> { (0..len as u64).map(|i| key.with(of).normal(i) as f32).collect() };
            let (dy, w) = (normal(0, g.cells() * c_out), normal(1, g.weights()));
            let mut packed = vec![f32::NAN; g.weights()];
            pack(&g, &w, &mut packed);
            for nonzero in [0, 1, 5, 10] {
                let position = |i: usize| {
                    let rows = window.min(l_out - i / c_out * window) as u64;
                    if key.with(2).below(i as u64, 10) < nonzero {
                        key.with(3).below(i as u64, rows) as u8
                    } else {
                        NO_GRADIENT
                    }
                };
                let argmax: Vec<u8> = (0..dy.len()).map(position).collect();
                let expected = by_definition(&g, &dy, &argmax, &w);
                let scale = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
                let mut bits: Option<Vec<u32>> = None;
                for isa in Isa::all() {
                    let (mut dx, mut scratch) = (vec![f32::NAN; l * c_in], vec![f32::NAN; sparse_scratch(&g)]);
                    Spread { g, dy: &dy, argmax: &argmax, packed: &packed, dx: &mut dx, scratch: &mut scratch }
                        .run(isa);
                    let error = dx.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum::<f64>().sqrt();
                    assert!(
                        error <= 3e-7 * scale,
                        "{number}, {nonzero} of ten nonzero, {isa:?}: {error:e} of {scale:e}"
                    );
                    let these: Vec<u32> = dx.iter().map(|v| v.to_bits()).collect();
                    let fused = isa.name() != "wide" || cfg!(target_feature = "fma");
                    if fused {
                        let first = bits.get_or_insert_with(|| these.clone());
                        let other = first.iter().zip(&these).position(|(a, b)| a != b);
                        assert_eq!(other, None, "{number}, {nonzero} of ten nonzero, {isa:?}: a number differs");
                    }
                }
            }
        }
    }
}
