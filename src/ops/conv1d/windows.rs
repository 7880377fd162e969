//! The windows of each pass of a convolution: which rows an output row, or a row of the input's gradient, depends on.

use super::Geometry;
use crate::simd::Windows;

/// The windows of the forward pass, over the rows of `x`.
pub fn forward_windows(g: &Geometry) -> Windows {
    Windows { rows: g.l_in, origin: -(g.pad as isize), step: g.stride, taps: g.k, tap_step: g.dilation }
}

/// One of the convolutions of which backward-data consists: as many as the stride. The rows `first, first + stride, ..` of `dx`
/// depend on the same taps, and form one of them.
#[derive(Clone, Copy, Debug)]
pub struct Residue {
    /// The first row of `dx`.
    pub first: usize,
    /// The number of rows of `dx`.
    pub count: usize,
    /// The last tap that they depend on; the others are `last_tap - tap_step`, `last_tap - 2 * tap_step`, ..
    pub last_tap: usize,
    /// Taps between neighbouring ones of them.
    pub tap_step: usize,
    /// The windows over the rows of `dy`, with the taps in reverse order. Without taps, the gradient of these rows is zero.
    pub windows: Windows,
}

/// The convolutions of which backward-data consists; no tap belongs to two of them.
pub fn residues(g: &Geometry) -> impl Iterator<Item = Residue> {
    let g = *g;
    let tap_step = g.stride / gcd(g.stride, g.dilation);
    (0..g.stride.min(g.l_in)).map(move |first| {
        let feeds = |t: usize| (first + g.pad + g.stride * g.k * g.dilation - t * g.dilation).is_multiple_of(g.stride);
        let first_tap = (0..g.k.min(tap_step)).find(|&t| feeds(t));
        let taps = first_tap.map_or(0, |t| (g.k - t).div_ceil(tap_step));
        let last_tap = first_tap.map_or(0, |t| t + (taps - 1) * tap_step);
        let origin = (first as isize + g.pad as isize - (last_tap * g.dilation) as isize).div_euclid(g.stride as isize);
        let windows = Windows { rows: g.l_out, origin, step: 1, taps, tap_step: tap_step * g.dilation / g.stride };
        Residue { first, count: (g.l_in - first).div_ceil(g.stride), last_tap, tap_step, windows }
    })
}

/// The greatest common divisor.
pub fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
