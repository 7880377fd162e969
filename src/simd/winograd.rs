//! Floor 1. The transforms of the Toom-Cook (Winograd) convolution F(4, 5): four outputs of a convolution with five taps
//! from eight products instead of twenty.
//!
//! `y = A^T [(G g) * (B^T d)]` at the points 0, +-1, +-2, +-1/2 and infinity. A **tile** is four rows of output; it reads
//! eight rows of input. A **plane** holds one of the eight points of all tiles, `[tile, channel]`, so that the products of a
//! point are one matrix product.
//!
//! **Source** Toom 1963, Cook 1966; Lavin and Gray, arXiv 1509.09308. Even and odd halves of `B^T` are evaluated
//! together: 26 vector operations a tile and vector of channels in, 16 out.
#![allow(unsafe_code)] // reason: reads and writes whole vectors through pointers; bounds are asserted once, at entry

use super::isa::{Kernel, Simd};

/// Points, rows of input a tile.
pub const POINTS: usize = 8;
/// Rows of output a tile.
pub const TILE: usize = 4;
/// Taps.
pub const TAPS: usize = 5;

/// `G`: what a kernel of five taps is multiplied by, point by point.
pub const KERNEL: [[f64; TAPS]; POINTS] = {
    const A: f64 = 2.0 / 9.0;
    const B: f64 = 1.0 / 90.0;
    const C: f64 = 32.0 / 45.0;
    [
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [-A, -A, -A, -A, -A],
        [-A, A, -A, A, -A],
        [B, 2.0 * B, 4.0 * B, 8.0 * B, 16.0 * B],
        [B, -2.0 * B, 4.0 * B, -8.0 * B, 16.0 * B],
        [C, C / 2.0, C / 4.0, C / 8.0, C / 16.0],
        [C, -C / 2.0, C / 4.0, -C / 8.0, C / 16.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
    ]
};

/// `v[p][t] = B^T d` for the eight rows from `4 t` on.
pub struct InputTransform<'a> {
    /// Rows of `c` channels, from the first tile's first on: `4 * tiles + 4` of them.
    pub x: &'a [f32],
    /// Channels.
    pub c: usize,
    /// Tiles.
    pub tiles: usize,
    /// Planes of `[tiles, c]`.
    pub v: &'a mut [f32],
    /// Numbers from plane to plane.
    pub plane: usize,
}

impl Kernel for InputTransform<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let InputTransform { x, c, tiles, v, plane } = self;
        if tiles == 0 {
            return;
        }
        assert!(x.len() >= (TILE * tiles + TILE) * c && plane >= tiles * c);
        assert!(v.len() >= (POINTS - 1) * plane + tiles * c);
        let whole = c / S::LANES * S::LANES;
        for t in 0..tiles {
            // SAFETY: rows `4 t .. 4 t + 8` lie in `x` and place `t` of all planes in `v`, both asserted above; the last
            // call touches only the channels that are left.
            unsafe {
                let (from, to) = (x.as_ptr().add(TILE * t * c), v.as_mut_ptr().add(t * c));
                for j in (0..whole).step_by(S::LANES) {
                    input_tile::<S, false>(s, (from.add(j), c), (to.add(j), plane), S::LANES);
                }
                if whole < c {
                    input_tile::<S, true>(s, (from.add(whole), c), (to.add(whole), plane), c - whole);
                }
            }
        }
    }
}

/// # Safety
/// `lanes` numbers are readable at eight rows and writable at eight planes, at most a vector of them.
#[inline(always)]
unsafe fn input_tile<S: Simd, const MASKED: bool>(
    s: S,
    (from, row): (*const f32, usize),
    (to, plane): (*mut f32, usize),
    lanes: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let load = |i: usize| if MASKED { s.load_first(from.add(i * row), lanes) } else { s.load(from.add(i * row)) };
        let store = |p: usize, v: S::V| {
            if MASKED { s.store_first(to.add(p * plane), lanes, v) } else { s.store(to.add(p * plane), v) }
        };
        let k = |value: f32| s.splat(value);
        let [d0, d1, d2, d3] = [load(0), load(1), load(2), load(3)];
        let [d4, d5, d6, d7] = [load(4), load(5), load(6), load(7)];
        store(0, s.fma(k(5.25), s.sub(d4, d2), s.sub(d0, d6)));
        store(7, s.fma(k(5.25), s.sub(d3, d5), s.sub(d7, d1)));
        let even = s.fma(k(-4.25), d4, s.add(d2, d6));
        let odd = s.fma(k(-4.25), d3, s.add(d1, d5));
        store(1, s.add(even, odd));
        store(2, s.sub(even, odd));
        let even = s.fma(k(-1.25), d4, s.fma(k(0.25), d2, d6));
        let odd = s.fma(k(-2.5), d3, s.fma(k(0.5), d1, s.mul(k(2.0), d5)));
        store(3, s.add(even, odd));
        store(4, s.sub(even, odd));
        let even = s.fma(k(-5.0), d4, s.fma(k(4.0), d2, d6));
        let odd = s.fma(k(-2.5), d3, s.fma(k(2.0), d1, s.mul(k(0.5), d5)));
        store(5, s.add(even, odd));
        store(6, s.sub(even, odd));
    }
}

/// `y[4 t .. 4 t + 4] = A^T m[..][t]`.
pub struct OutputTransform<'a> {
    /// Planes of `[tiles, c]`.
    pub m: &'a [f32],
    /// Numbers from plane to plane.
    pub plane: usize,
    /// Channels.
    pub c: usize,
    /// Tiles.
    pub tiles: usize,
    /// `4 * tiles` rows of `c` channels.
    pub y: &'a mut [f32],
}

impl Kernel for OutputTransform<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let OutputTransform { m, plane, c, tiles, y } = self;
        if tiles == 0 {
            return;
        }
        assert!(m.len() >= (POINTS - 1) * plane + tiles * c && plane >= tiles * c);
        assert!(y.len() >= TILE * tiles * c);
        let whole = c / S::LANES * S::LANES;
        for t in 0..tiles {
            // SAFETY: place `t` of all planes lies in `m` and rows `4 t .. 4 t + 4` in `y`, both asserted above; the last
            // call touches only the channels that are left.
            unsafe {
                let (from, to) = (m.as_ptr().add(t * c), y.as_mut_ptr().add(TILE * t * c));
                for j in (0..whole).step_by(S::LANES) {
                    output_tile::<S, false>(s, (from.add(j), plane), (to.add(j), c), S::LANES);
                }
                if whole < c {
                    output_tile::<S, true>(s, (from.add(whole), plane), (to.add(whole), c), c - whole);
                }
            }
        }
    }
}

/// # Safety
/// `lanes` numbers are readable at eight planes and writable at four rows, at most a vector of them.
#[inline(always)]
unsafe fn output_tile<S: Simd, const MASKED: bool>(
    s: S,
    (from, plane): (*const f32, usize),
    (to, row): (*mut f32, usize),
    lanes: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let load =
            |p: usize| if MASKED { s.load_first(from.add(p * plane), lanes) } else { s.load(from.add(p * plane)) };
        let store = |i: usize, v: S::V| {
            if MASKED { s.store_first(to.add(i * row), lanes, v) } else { s.store(to.add(i * row), v) }
        };
        let k = |value: f32| s.splat(value);
        let pair = |p: usize| (s.add(load(p), load(p + 1)), s.sub(load(p), load(p + 1)));
        let ((s1, d1), (s2, d2), (s3, d3)) = (pair(1), pair(3), pair(5));
        store(0, s.add(s.add(load(0), s1), s.add(s2, s3)));
        store(1, s.fma(k(2.0), d2, s.fma(k(0.5), d3, d1)));
        store(2, s.fma(k(4.0), s2, s.fma(k(0.25), s3, s1)));
        store(3, s.add(load(7), s.fma(k(8.0), d2, s.fma(k(0.125), d3, d1))));
    }
}
