//! Moments of the audio, from which the statistics of every convolution of one input channel follow: see `mono_norm.rs`.
//!
//! With `x[r, t]` the sample that tap `t` of row `r` reads, `X[t] = sum over r of x[r, t]` and `R[t, u] = sum over r of x[r, t] x[r, u]`.
//! A row later, tap `t` reads what tap `t + stride` read before. So the sums of taps below the stride give all others, which differ from them
//! only at the ends: with stride 1 the products with one tap are computed in full, with stride 3 those with three.
//!
//! **Layout** the samples of a block, in double precision, as one array for each tap below the stride: neighbouring rows are neighbouring numbers.
//! **Registers** 16 sums, a vector of each factor. **Error** that of double precision; the products are exact.

use super::convolve::{Rows, Stored};
use super::geometry::{Geometry, MOST_MONO_TAPS};
use crate::base::aligned::round_up;
use crate::simd::{Isa, Kernel, Simd};

/// `X` and `R` of some samples of audio; of the taps that the convolution does not have they are zero.
#[derive(Clone, Copy, Default)]
pub struct Moments {
    pub sums: [f64; MOST_MONO_TAPS],
    pub products: [[f64; MOST_MONO_TAPS]; MOST_MONO_TAPS],
}

/// The length of [`Moments`] in memory: each number is saved as an `f32` and what is left of it.
pub fn moments_len(k: usize) -> usize {
    2 * (k + k * k)
}

impl Moments {
    fn values(&mut self, k: usize) -> impl Iterator<Item = &mut f64> {
        self.sums[..k].iter_mut().chain(self.products[..k].iter_mut().flat_map(move |row| &mut row[..k]))
    }

    fn save(mut self, k: usize, to: &mut [f32]) {
        for (pair, value) in to.as_chunks_mut::<2>().0.iter_mut().zip(self.values(k)) {
            let high = *value as f32;
            *pair = [high, (*value - f64::from(high)) as f32];
        }
    }

    /// Adds the moments of `k` taps that [`Observe`] has saved.
    pub fn add(&mut self, k: usize, saved: &[f32]) {
        for ([high, low], value) in saved.as_chunks::<2>().0.iter().zip(self.values(k)) {
            *value += f64::from(*high) + f64::from(*low);
        }
    }
}

/// The first phase forward: the moments of a sample's audio.
pub struct Observe<'a> {
    pub g: Geometry,
    pub x: &'a [f32],
    /// At least [`moments_len`].
    pub saved: &'a mut [f32],
    /// At least [`scratch`], aligned as two `f32`.
    pub scratch: &'a mut [f32],
}

/// Rows of a block of [`Observe`].
const ROWS: usize = 512;
/// Sums that are taken side by side.
const LANES: usize = 16;

/// The length of the array of a tap below the stride.
fn array_len(g: &Geometry) -> usize {
    (ROWS + (g.k - 1) / g.stride).next_multiple_of(8)
}

/// The length of all arrays.
fn arrays_len(g: &Geometry) -> usize {
    g.k.min(g.stride) * array_len(g)
}

/// Numbers of scratch for [`Observe`].
pub fn scratch(g: &Geometry) -> usize {
    round_up(2 * arrays_len(g) + (ROWS - 1) * g.stride + g.k)
}

impl Observe<'_> {
    pub fn run(self, isa: Isa) {
        let Observe { g, x, saved, scratch } = self;
        let x = Stored { x, c: 1 };
        let (arrays, scratch) = scratch.split_at_mut(2 * arrays_len(&g));
        let (arrays, len) = (bytemuck::cast_slice_mut(arrays), array_len(&g));
        let mut moments = Moments::default();
        for first in (0..g.l_out).step_by(ROWS) {
            let rows = ROWS.min(g.l_out - first);
            let from = (first * g.stride) as isize - g.pad as isize;
            let x = x.rows(isa, from, (rows - 1) * g.stride + g.k, scratch);
            isa.run(Block { x, k: g.k, stride: g.stride, rows, arrays, len, moments: &mut moments });
        }
        moments.save(g.k, saved);
    }
}

/// Adds the moments of the rows whose first window begins at the start of `x`.
struct Block<'a> {
    x: &'a [f32],
    k: usize,
    stride: usize,
    rows: usize,
    arrays: &'a mut [f64],
    len: usize,
    moments: &'a mut Moments,
}

impl Kernel for Block<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Block { x, k, stride, rows, arrays, len, moments } = self;
        let taps = k.min(stride);
        for (t, array) in arrays.chunks_exact_mut(len).enumerate().take(taps) {
            match stride {
                1 => array.iter_mut().zip(x).for_each(|(to, &x)| *to = f64::from(x)),
                _ => array.iter_mut().zip(x[t..].iter().step_by(stride)).for_each(|(to, &x)| *to = f64::from(x)),
            }
        }
        // What tap `t` reads in each row.
        let tap = |t: usize| &arrays[t % stride * len + t / stride..][..rows];
        let at = |i: usize| f64::from(x[i]);
        for t in 0..taps {
            let mut sum = sum_of(tap(t));
            for t in (t..k).step_by(stride) {
                moments.sums[t] += sum;
                if t + stride < k {
                    sum += at(stride * rows + t) - at(t);
                }
            }
            let mut add = |u: usize, mut product: f64| {
                let apart = u - t;
                for t in (t..k - apart).step_by(stride) {
                    moments.products[t][t + apart] += product;
                    if apart > 0 {
                        moments.products[t + apart][t] += product;
                    }
                    if t + apart + stride < k {
                        product += at(stride * rows + t) * at(stride * rows + t + apart) - at(t) * at(t + apart);
                    }
                }
            };
            for u in t..k {
                add(u, sum_of_products(tap(t), tap(u)));
            }
        }
    }
}

/// The sum of `x`.
#[inline(always)]
fn sum_of(x: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (x, rest) = x.as_chunks::<LANES>();
    for x in x {
        sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
    }
    sums.iter().sum::<f64>() + rest.iter().sum::<f64>()
}

/// The sum of the products of `x` and `y`, which are as long.
#[inline(always)]
fn sum_of_products(x: &[f64], y: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for i in 0..LANES {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f64>() + x_rest.iter().zip(y_rest).map(|(&x, &y)| x * y).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::aligned::Aligned;
    use crate::ops::ConvChoice;

    /// The moments by their definition.
    fn defined(x: &[f32], g: &Geometry) -> Moments {
        let mut moments = Moments::default();
        let read = |r: usize, t: usize| {
            let at = (r * g.stride + t).checked_sub(g.pad);
            at.and_then(|at| x.get(at)).map_or(0.0, |&x| f64::from(x))
        };
        for r in 0..g.l_out {
            for t in 0..g.k {
                moments.sums[t] += read(r, t);
                (0..g.k).for_each(|u| moments.products[t][u] += read(r, t) * read(r, u));
            }
        }
        moments
    }

    #[test]
    fn moments_are_those_of_the_definition() {
        for (l_out, k, stride) in
            [(1, 1, 1), (7, 5, 1), (600, 3, 1), (530, 27, 3), (40, 3, 4), (33, 8, 5), (1030, 32, 2)]
        {
            let l = (l_out - 1) * stride + k - 1;
            let (pad, choice) = (k / 3, ConvChoice::Auto);
            let g = Geometry { l, c_in: 1, l_out, c_out: 1, k, stride, pad, window: 2, ceil: false, choice };
            let x: Vec<f32> = (0..l).map(|i| ((i * i + 7 * i) % 23) as f32 - 9.0).collect();
            let expected = defined(&x, &g);
            for isa in Isa::all() {
                let mut saved = vec![f32::NAN; moments_len(k)];
                let mut memory = Aligned::zeros(scratch(&g));
                memory.fill(f32::NAN);
                Observe { g, x: &x, saved: &mut saved, scratch: &mut memory }.run(isa);
                let mut got = Moments::default();
                got.add(k, &saved);
                // Sums of whole numbers are exact.
                assert_eq!(got.sums, expected.sums, "{l_out} rows, {k} taps, stride {stride}, {isa:?}");
                assert_eq!(got.products, expected.products, "{l_out} rows, {k} taps, stride {stride}, {isa:?}");
            }
        }
    }
}
