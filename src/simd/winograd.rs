//! The algorithms of fast convolution, Toom-Cook or Winograd: eight rows of output from fewer products than taps
//! times eight.
//!
//! `y = A^T [(G g) * (B^T d)]`: a **tile** of [`TILE`] rows of output reads a few rows `d` of input; both they and the taps `g`
//! are evaluated at some **points**, multiplied product by product, and interpolated. Each algorithm is a [`Toom`], given by
//! its points only; the kernels that run it over rows and channels are in `transform.rs` and `planes.rs`.
//!
//! Backward-weight is the transposed algorithm with the same matrices: `dg = G^T [sum over tiles of (A dy) * (B^T d)]`.
//!
//! **Points** 0, infinity, pairs `+-p` of one product each, and pairs `+-ip` of imaginary numbers: conjugate values, whose
//! complex product takes three real ones (Gauss). A pair's even and odd powers are summed once for both. An imaginary pair
//! costs a product more, and lets all points stay near the unit circle, where powers neither grow nor shrink: of real points
//! alone, already ten lose three times as much precision as eight.
//!
//! **Exact** the points are few binary digits long, so that no coefficient of `A` or `B` is rounded; `G` is in double precision.
//!
//! **Source** Toom 1963, Cook 1966; Winograd, Arithmetic Complexity of Computations, 1980 (products modulo `x^2 + p^2`);
//! Lavin and Gray, arXiv 1509.09308. The points are among those with the least error in single precision of many tried.
#![allow(unsafe_code)] // reason: kernels trust the algorithms' numbers of products, so that the trait is unsafe to implement

use super::isa::Simd;

/// Rows of output a tile.
pub const TILE: usize = 8;
/// Most taps of an algorithm.
pub const TAPS: usize = 5;
/// Most rows that a tile reads.
pub const READ: usize = TILE + TAPS - 1;
/// Most products of an algorithm.
pub const PRODUCTS: usize = 14;
/// Most pairs of points.
const PAIRS: usize = READ / 2 - 1;

/// One algorithm. Evaluations work on whole vectors of neighbouring channels; elements past its rows or products are not used.
///
/// # Safety
/// An implementation gives only the points and the number of taps. It keeps what the trait derives from them ([`Toom::READ`],
/// [`Toom::PRODUCTS`], [`Toom::TABLE`] and the methods): kernels read and write at the product numbers that these return.
pub unsafe trait Toom: Copy {
    /// Its name: outputs and taps.
    const NAME: &'static str;
    /// Taps.
    const TAPS: usize;
    /// The positive ones of the real points.
    const REAL: &'static [f64];
    /// The positive imaginary parts of the imaginary points.
    const IMAGINARY: &'static [f64];

    /// Rows that a tile reads.
    const READ: usize = TILE + Self::TAPS - 1;
    /// Products.
    const PRODUCTS: usize = 2 + 2 * Self::REAL.len() + 3 * Self::IMAGINARY.len();
    /// Its matrices.
    const TABLE: Table = Table::new(Self::TAPS, Self::REAL, Self::IMAGINARY);

    /// `B^T d`. **Operations** for each pair two sums over every other row and what brings them together, and two sums for
    /// the ends: 59 for `F(8, 5)`.
    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::V; READ]) -> [S::V; PRODUCTS] {
        let (real, pairs) = (Self::REAL.len(), Self::REAL.len() + Self::IMAGINARY.len());
        let mut products = [s.zero(); PRODUCTS];
        products[0] = every_other(s, &Self::TABLE.ends[..=pairs], &d);
        products[Self::PRODUCTS - 1] = every_other(s, &Self::TABLE.ends[..=pairs], &d[1..]);
        for (j, coefficients) in Self::TABLE.pairs.iter().enumerate().take(pairs) {
            let even = every_other(s, &coefficients[..pairs], &d[2..]);
            let odd = every_other(s, &coefficients[..pairs], &d[1..]);
            if j < real {
                let (p, at) = (Self::REAL[j], 1 + 2 * j);
                products[at] = s.fma(s.splat(p as f32), odd, even);
                products[at + 1] = s.fma(s.splat(-p as f32), odd, even);
            } else {
                let (p, at) = (Self::IMAGINARY[j - real], 1 + 2 * real + 3 * (j - real));
                products[at] = s.fma(s.splat(-p as f32), odd, even);
                products[at + 1] = odd;
                products[at + 2] = even;
            }
        }
        products
    }

    /// `A^T m`; each product is loaded when it is needed. **Operations** 44 for `F(8, 5)`.
    #[inline(always)]
    fn output<S: Simd>(s: S, m: impl Fn(usize) -> S::V) -> [S::V; TILE] {
        let mut y = [s.zero(); TILE];
        // The rows but the first and the last begin with the first pair.
        for (j, &p) in Self::IMAGINARY.iter().enumerate() {
            let at = 1 + 2 * Self::REAL.len() + 3 * j;
            let (both, real, imaginary) = (m(at), m(at + 1), m(at + 2));
            let (even, odd) = (s.add(both, real), s.add(both, imaginary));
            add_powers(s, &mut y, (even, odd), p, -p * p, j == 0);
        }
        y[0] = s.add(y[0], m(0));
        y[TILE - 1] = s.add(y[TILE - 1], m(Self::PRODUCTS - 1));
        for (j, &p) in Self::REAL.iter().enumerate() {
            let (plus, minus) = (m(1 + 2 * j), m(2 + 2 * j));
            add_powers(s, &mut y, (s.add(plus, minus), s.sub(plus, minus)), p, p * p, false);
        }
        y
    }

    /// `A dy`.
    #[inline(always)]
    fn gradient<S: Simd>(s: S, dy: [S::V; TILE]) -> [S::V; PRODUCTS] {
        let mut products = [s.zero(); PRODUCTS];
        products[0] = dy[0];
        products[Self::PRODUCTS - 1] = dy[TILE - 1];
        for (j, &p) in Self::REAL.iter().enumerate() {
            let (even, odd) = (values(s, p * p, &dy), values(s, p * p, &dy[1..]));
            products[1 + 2 * j] = s.fma(s.splat(p as f32), odd, even);
            products[2 + 2 * j] = s.fma(s.splat(-p as f32), odd, even);
        }
        for (j, &p) in Self::IMAGINARY.iter().enumerate() {
            let (real, odd) = (values(s, -p * p, &dy), values(s, -p * p, &dy[1..]));
            let at = 1 + 2 * Self::REAL.len() + 3 * j;
            products[at] = s.fma(s.splat(p as f32), odd, real);
            products[at + 1] = real;
            products[at + 2] = s.mul(s.splat(p as f32), odd);
        }
        products
    }
}

/// `sum over k of coefficients[k] * d[2 k]`, the last coefficient being one.
#[inline(always)]
fn every_other<S: Simd>(s: S, coefficients: &[f64], d: &[S::V]) -> S::V {
    let last = coefficients.len() - 1;
    let mut sum = d[2 * last];
    for k in (0..last).rev() {
        sum = s.fma(s.splat(coefficients[k] as f32), d[2 * k], sum);
    }
    sum
}

/// `sum over k of square^k * dy[2 k]`.
#[inline(always)]
fn values<S: Simd>(s: S, square: f64, dy: &[S::V]) -> S::V {
    let mut sum = dy[0];
    for k in 1..TILE / 2 {
        sum = s.fma(s.splat(power(square, k) as f32), dy[2 * k], sum);
    }
    sum
}

/// Adds to the rows of a tile the powers of a point whose square is `square`, times what it brings to even and odd rows;
/// `fresh` rows are assigned.
#[inline(always)]
fn add_powers<S: Simd>(s: S, y: &mut [S::V; TILE], (even, odd): (S::V, S::V), p: f64, square: f64, fresh: bool) {
    for k in 0..TILE / 2 {
        let (of_even, of_odd) = (s.splat(power(square, k) as f32), s.splat((p * power(square, k)) as f32));
        if fresh {
            (y[2 * k], y[2 * k + 1]) = (s.mul(of_even, even), s.mul(of_odd, odd));
        } else {
            y[2 * k] = s.fma(of_even, even, y[2 * k]);
            y[2 * k + 1] = s.fma(of_odd, odd, y[2 * k + 1]);
        }
    }
}

/// `base` to the power of `exponent`.
const fn power(base: f64, exponent: usize) -> f64 {
    let (mut value, mut i) = (1.0, 0);
    while i < exponent {
        value *= base;
        i += 1;
    }
    value
}

/// What follows from an algorithm's points, with `z` the square of a point: `M(z)`, the product over all pairs of `z - p^2`,
/// `M` without one of the pairs, and `G`.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Coefficients of `M`, the constant first.
    ends: [f64; PAIRS + 1],
    /// Coefficients of `M` without each of the pairs, the real ones first.
    pairs: [[f64; PAIRS]; PAIRS],
    /// `G`: what the taps are multiplied by, product by product.
    pub kernel: [[f64; TAPS]; PRODUCTS],
}

impl Table {
    /// The table of real points `+-p` and imaginary points `+-ip`, beside 0 and infinity, for so many taps.
    const fn new(taps: usize, real: &[f64], imaginary: &[f64]) -> Table {
        let count = real.len() + imaginary.len();
        assert!(2 * count + 2 == TILE + taps - 1 && 2 + 2 * real.len() + 3 * imaginary.len() <= PRODUCTS);
        let mut squares = [0.0; PAIRS];
        let mut j = 0;
        while j < count {
            squares[j] = if j < real.len() { real[j] * real[j] } else { -power(imaginary[j - real.len()], 2) };
            j += 1;
        }
        let ends = product(&squares, count, count);
        let mut table = Table { ends, pairs: [[0.0; PAIRS]; PAIRS], kernel: [[0.0; TAPS]; PRODUCTS] };
        table.kernel[0][0] = 1.0 / ends[0];
        table.kernel[2 * real.len() + 3 * imaginary.len() + 1][taps - 1] = 1.0;
        let mut j = 0;
        while j < count {
            let without = product(&squares, count, j);
            let (mut value, mut k) = (0.0, 0);
            while k < count {
                table.pairs[j][k] = without[k];
                value += without[k] * power(squares[j], k);
                k += 1;
            }
            let mut tap = 0;
            while tap < taps {
                let power = power(squares[j], tap / 2);
                if j < real.len() {
                    let (p, at) = (real[j], 1 + 2 * j);
                    let (scale, odd) = (1.0 / (2.0 * squares[j] * value), tap % 2 == 1);
                    table.kernel[at][tap] = scale * power * if odd { p } else { 1.0 };
                    table.kernel[at + 1][tap] = scale * power * if odd { -p } else { 1.0 };
                } else {
                    // The taps' value is `c + id`; the three products are with `-c`, `d - c` and `c + d`.
                    let (p, at) = (imaginary[j - real.len()], 1 + 2 * real.len() + 3 * (j - real.len()));
                    let (c, d) = if tap % 2 == 0 { (power, 0.0) } else { (0.0, p * power) };
                    table.kernel[at][tap] = -c / (p * p * value);
                    table.kernel[at + 1][tap] = (d - c) / (p * value);
                    table.kernel[at + 2][tap] = (c + d) / (p * p * value);
                }
                tap += 1;
            }
            j += 1;
        }
        table
    }
}

/// The coefficients of the product of `z - square` over all of `count` squares but one, if there is one of that number.
const fn product(squares: &[f64; PAIRS], count: usize, without: usize) -> [f64; PAIRS + 1] {
    let mut coefficients = [0.0; PAIRS + 1];
    coefficients[0] = 1.0;
    let mut j = 0;
    while j < count {
        if j != without {
            let mut k = PAIRS;
            while k > 0 {
                coefficients[k] = coefficients[k - 1] - squares[j] * coefficients[k];
                k -= 1;
            }
            coefficients[0] *= -squares[j];
        }
        j += 1;
    }
    coefficients
}

/// F(8, 5): 13 products instead of 40.
#[derive(Clone, Copy, Debug)]
pub struct FiveTaps;

// SAFETY: only points and taps are given.
unsafe impl Toom for FiveTaps {
    const NAME: &'static str = "F(8,5)";
    const TAPS: usize = 5;
    const REAL: &'static [f64] = &[0.5, 0.75, 1.25, 2.0];
    const IMAGINARY: &'static [f64] = &[1.0];
}

/// F(5, 8): 14 products instead of 40. For backward-weight, whose long sums ask for more precision than forward and
/// backward-data; half the error of [`FiveTaps`].
#[derive(Clone, Copy, Debug)]
pub struct FiveTapSums;

// SAFETY: only points and taps are given.
unsafe impl Toom for FiveTapSums {
    const NAME: &'static str = "F(5,8)";
    const TAPS: usize = 5;
    const REAL: &'static [f64] = &[0.625, 1.0, 1.5];
    const IMAGINARY: &'static [f64] = &[0.75, 1.25];
}

/// F(8, 3): 11 products instead of 24.
#[derive(Clone, Copy, Debug)]
pub struct ThreeTaps;

// SAFETY: only points and taps are given.
unsafe impl Toom for ThreeTaps {
    const NAME: &'static str = "F(8,3)";
    const TAPS: usize = 3;
    const REAL: &'static [f64] = &[0.5, 1.0, 1.75];
    const IMAGINARY: &'static [f64] = &[1.0];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::portable::Scalar;

    /// Of every algorithm, a tile of outputs and the taps' gradient from small whole numbers, beside the definition.
    fn meets_the_definition<F: Toom>() {
        let s = Scalar;
        let d: [f32; READ] = std::array::from_fn(|i| [3., -1., 4., 1., -5., 9., -2., 6., 5., -3., 5., 8.][i]);
        let g: [f64; TAPS] = std::array::from_fn(|t| if t < F::TAPS { [2.0, -7.0, 1.0, 8.0, -3.0][t] } else { 0.0 });
        let dy = [1.0f32, -2.0, 5.0, 3.0, -4.0, 7.0, 2.0, -6.0];
        let kernel = F::TABLE.kernel.map(|row| row.iter().zip(g).map(|(a, b)| a * b).sum::<f64>() as f32);
        let v = F::input(s, d);
        let y = F::output(s, |p| v[p] * kernel[p]);
        for (r, y) in y.iter().enumerate() {
            let direct: f64 = (0..F::TAPS).map(|t| f64::from(d[r + t]) * g[t]).sum();
            assert!((f64::from(*y) - direct).abs() < 2e-3, "{} row {r}: {y}, not {direct}", F::NAME);
        }
        let z = F::gradient(s, dy);
        for t in 0..F::TAPS {
            let fast: f64 = (0..F::PRODUCTS).map(|p| F::TABLE.kernel[p][t] * f64::from(z[p] * v[p])).sum();
            let direct: f64 = (0..TILE).map(|r| f64::from(d[r + t] * dy[r])).sum();
            assert!((fast - direct).abs() < 2e-3, "{} tap {t}: {fast}, not {direct}", F::NAME);
        }
    }

    #[test]
    fn algorithms_meet_the_definition() {
        meets_the_definition::<FiveTaps>();
        meets_the_definition::<FiveTapSums>();
        meets_the_definition::<ThreeTaps>();
    }

    /// That no coefficient of the transforms of rows is rounded.
    fn is_exact<F: Toom>() {
        let exact = |value: &f64| f64::from(*value as f32) == *value;
        assert!(F::TABLE.ends.iter().chain(F::TABLE.pairs.iter().flatten()).all(exact), "{}", F::NAME);
        let powers = F::REAL.iter().chain(F::IMAGINARY).flat_map(|&p| (0..TILE).map(move |k| power(p, k)));
        assert!(powers.into_iter().all(|value| exact(&value)), "{}", F::NAME);
    }

    #[test]
    fn coefficients_are_exact() {
        is_exact::<FiveTaps>();
        is_exact::<FiveTapSums>();
        is_exact::<ThreeTaps>();
    }
}
