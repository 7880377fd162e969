//! Floor 1. The algorithms of fast convolution, Toom-Cook or Winograd: four outputs from fewer products than taps times four.
//!
//! `y = A^T [(G g) * (B^T d)]`: a **tile** of four rows of output reads a few rows `d` of input; both they and the taps `g`
//! are evaluated at some **points**, multiplied point by point, and interpolated. Each algorithm is a [`Toom`]; the
//! kernels that run it over rows and channels are in `transform.rs` and `planes.rs`.
//!
//! Backward-weight is the transposed algorithm with the same matrices: `dg = G^T [sum over tiles of (A dy) * (B^T d)]`.
//!
//! **Source** Toom 1963, Cook 1966; Lavin and Gray, arXiv 1509.09308. The points are those with the least error in single
//! precision among many tried.

use super::isa::Simd;

/// Rows of output a tile.
pub const TILE: usize = 4;
/// Most points of an algorithm; also the most rows that a tile reads.
pub const POINTS: usize = 8;
/// Most taps of an algorithm.
pub const TAPS: usize = 5;

/// One algorithm. Evaluations work on whole vectors of neighbouring channels; places past its points are not used.
pub trait Toom: Copy {
    /// Its name: outputs and taps.
    const NAME: &'static str;
    /// Taps.
    const TAPS: usize;
    /// Points, and rows that a tile reads: `TILE + TAPS - 1`.
    const POINTS: usize = TILE + Self::TAPS - 1;
    /// `G`: what the taps are multiplied by, point by point.
    const KERNEL: [[f64; TAPS]; POINTS];

    /// `B^T d`.
    fn input<S: Simd>(s: S, d: [S::V; POINTS]) -> [S::V; POINTS];
    /// `A^T m`.
    fn output<S: Simd>(s: S, m: [S::V; POINTS]) -> [S::V; TILE];
    /// `A dy`.
    fn gradient<S: Simd>(s: S, dy: [S::V; TILE]) -> [S::V; POINTS];
}

/// `a + b` and `a - b`: the values of a polynomial at a point and its negative, from the even and the odd half.
#[inline(always)]
fn both<S: Simd>(s: S, even: S::V, odd: S::V) -> (S::V, S::V) {
    (s.add(even, odd), s.sub(even, odd))
}

/// F(4, 5): 8 products instead of 20, at 0, +-1, +-2, +-1/2 and infinity. 26 vector operations in, 16 out.
#[derive(Clone, Copy, Debug)]
pub struct FiveTaps;

impl Toom for FiveTaps {
    const NAME: &'static str = "F(4,5)";
    const TAPS: usize = 5;
    const KERNEL: [[f64; TAPS]; POINTS] = {
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

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::V; POINTS]) -> [S::V; POINTS] {
        let k = |value: f32| s.splat(value);
        let zero = s.fma(k(5.25), s.sub(d[4], d[2]), s.sub(d[0], d[6]));
        let infinity = s.fma(k(5.25), s.sub(d[3], d[5]), s.sub(d[7], d[1]));
        let even = s.fma(k(-4.25), d[4], s.add(d[2], d[6]));
        let odd = s.fma(k(-4.25), d[3], s.add(d[1], d[5]));
        let one = both(s, even, odd);
        let even = s.fma(k(-1.25), d[4], s.fma(k(0.25), d[2], d[6]));
        let odd = s.fma(k(-2.5), d[3], s.fma(k(0.5), d[1], s.mul(k(2.0), d[5])));
        let two = both(s, even, odd);
        let even = s.fma(k(-5.0), d[4], s.fma(k(4.0), d[2], d[6]));
        let odd = s.fma(k(-2.5), d[3], s.fma(k(2.0), d[1], s.mul(k(0.5), d[5])));
        let half = both(s, even, odd);
        [zero, one.0, one.1, two.0, two.1, half.0, half.1, infinity]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::V; POINTS]) -> [S::V; TILE] {
        let k = |value: f32| s.splat(value);
        let ((s1, d1), (s2, d2), (s3, d3)) = (both(s, m[1], m[2]), both(s, m[3], m[4]), both(s, m[5], m[6]));
        [
            s.add(s.add(m[0], s1), s.add(s2, s3)),
            s.fma(k(2.0), d2, s.fma(k(0.5), d3, d1)),
            s.fma(k(4.0), s2, s.fma(k(0.25), s3, s1)),
            s.add(m[7], s.fma(k(8.0), d2, s.fma(k(0.125), d3, d1))),
        ]
    }

    #[inline(always)]
    fn gradient<S: Simd>(s: S, [a, b, c, d]: [S::V; TILE]) -> [S::V; POINTS] {
        let k = |value: f32| s.splat(value);
        let one = both(s, s.add(a, c), s.add(b, d));
        let two = both(s, s.fma(k(4.0), c, a), s.mul(k(2.0), s.fma(k(4.0), d, b)));
        let half = both(s, s.fma(k(0.25), c, a), s.mul(k(0.5), s.fma(k(0.25), d, b)));
        [a, one.0, one.1, two.0, two.1, half.0, half.1, d]
    }
}

/// F(4, 3): 6 products instead of 12, at 0, +-3/4, +-3/2 and infinity. 16 vector operations in, 11 out.
#[derive(Clone, Copy, Debug)]
pub struct ThreeTaps;

impl Toom for ThreeTaps {
    const NAME: &'static str = "F(4,3)";
    const TAPS: usize = 3;
    const KERNEL: [[f64; TAPS]; POINTS] = {
        const A: f64 = 128.0 / 243.0;
        const B: f64 = 32.0 / 81.0;
        const C: f64 = 8.0 / 27.0;
        [
            [64.0 / 81.0, 0.0, 0.0, 0.0, 0.0],
            [-A, -B, -C, 0.0, 0.0],
            [-A, B, -C, 0.0, 0.0],
            [A / 4.0, B / 2.0, C, 0.0, 0.0],
            [A / 4.0, -B / 2.0, C, 0.0, 0.0],
            [0.0, 0.0, 1.0, 0.0, 0.0],
            [0.0; TAPS],
            [0.0; TAPS],
        ]
    };

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::V; POINTS]) -> [S::V; POINTS] {
        let k = |value: f32| s.splat(value);
        let zero = s.fma(k(81.0 / 64.0), d[0], s.fma(k(-45.0 / 16.0), d[2], d[4]));
        let infinity = s.fma(k(81.0 / 64.0), d[1], s.fma(k(-45.0 / 16.0), d[3], d[5]));
        let even = s.fma(k(-9.0 / 4.0), d[2], d[4]);
        let odd = s.fma(k(-27.0 / 16.0), d[1], s.mul(k(0.75), d[3]));
        let inner = both(s, even, odd);
        let even = s.fma(k(-9.0 / 16.0), d[2], d[4]);
        let odd = s.fma(k(-27.0 / 32.0), d[1], s.mul(k(1.5), d[3]));
        let outer = both(s, even, odd);
        [zero, inner.0, inner.1, outer.0, outer.1, infinity, s.zero(), s.zero()]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::V; POINTS]) -> [S::V; TILE] {
        let k = |value: f32| s.splat(value);
        let ((s1, d1), (s2, d2)) = (both(s, m[1], m[2]), both(s, m[3], m[4]));
        [
            s.add(m[0], s.add(s1, s2)),
            s.fma(k(0.75), d1, s.mul(k(1.5), d2)),
            s.fma(k(9.0 / 16.0), s1, s.mul(k(9.0 / 4.0), s2)),
            s.fma(k(27.0 / 64.0), d1, s.fma(k(27.0 / 8.0), d2, m[5])),
        ]
    }

    #[inline(always)]
    fn gradient<S: Simd>(s: S, [a, b, c, d]: [S::V; TILE]) -> [S::V; POINTS] {
        let k = |value: f32| s.splat(value);
        let inner = both(s, s.fma(k(9.0 / 16.0), c, a), s.mul(k(0.75), s.fma(k(9.0 / 16.0), d, b)));
        let outer = both(s, s.fma(k(2.25), c, a), s.mul(k(1.5), s.fma(k(2.25), d, b)));
        [a, inner.0, inner.1, outer.0, outer.1, d, s.zero(), s.zero()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::portable::Scalar;

    /// Of every algorithm, four outputs and the taps' gradient from small whole numbers, beside the definition.
    fn meets_the_definition<F: Toom>() {
        let s = Scalar;
        let d: [f32; POINTS] = std::array::from_fn(|i| [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, -2.0, 6.0][i]);
        let g: [f64; TAPS] = std::array::from_fn(|t| if t < F::TAPS { [2.0, -7.0, 1.0, 8.0, -3.0][t] } else { 0.0 });
        let dy = [1.0f32, -2.0, 5.0, 3.0];
        let kernel = F::KERNEL.map(|row| row.iter().zip(g).map(|(a, b)| a * b).sum::<f64>() as f32);
        let v = F::input(s, d);
        let y = F::output(s, std::array::from_fn(|p| v[p] * kernel[p]));
        for (r, y) in y.iter().enumerate() {
            let direct: f64 = (0..F::TAPS).map(|t| f64::from(d[r + t]) * g[t]).sum();
            assert!((f64::from(*y) - direct).abs() < 1e-3, "{} row {r}: {y}, not {direct}", F::NAME);
        }
        let z = F::gradient(s, dy);
        for t in 0..F::TAPS {
            let fast: f64 = (0..F::POINTS).map(|p| F::KERNEL[p][t] * f64::from(z[p] * v[p])).sum();
            let direct: f64 = (0..TILE).map(|r| f64::from(d[r + t] * dy[r])).sum();
            assert!((fast - direct).abs() < 1e-3, "{} tap {t}: {fast}, not {direct}", F::NAME);
        }
    }

    #[test]
    fn algorithms_meet_the_definition() {
        meets_the_definition::<FiveTaps>();
        meets_the_definition::<ThreeTaps>();
    }
}
