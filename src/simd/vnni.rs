//! Tiles of products of integers for AVX-512 VNNI: 12 rows of 32 outputs, with 24 vectors of sums, 2 of weights and 1 of inputs in 27 of the 32 registers.
//!
//! `vpdpwssd` adds the two products of a pair to each of 16 sums, `vpdpbusd` the four of a quad, neither with saturation. A step is four bytes of each row either way,
//! so that one tile serves both: places and strides are in bytes. A tile is generic over the vectors ([`Dot`]), so that its indices are tested on any processor.
#![allow(unsafe_code)] // reason: loads through pointers, and entering a function compiled for an instruction set that detection has proved present

use super::integer::OUTPUTS;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m512i, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32, _mm512_set1_epi32};

/// Bytes of a pair or quad.
const STEP: usize = 4;

/// Rows of the largest tile.
const ROWS: usize = 12;

/// The operands of a product.
pub(super) struct Operands<'a> {
    /// The input.
    pub x: &'a [u8],
    /// Bytes between the beginnings of neighbouring rows.
    pub stride: usize,
    /// Pairs or quads of each output, `[groups, steps]`.
    pub weights: &'a [[u8; STEP * OUTPUTS]],
    /// Pairs or quads of a row.
    pub steps: usize,
    /// `[groups]`.
    pub bias: &'a [[i32; OUTPUTS]],
    /// `[rows, groups]`.
    pub out: &'a mut [[i32; OUTPUTS]],
}

/// Vectors of a number for each output of a group. Every method is inlined into the function that is compiled for the instruction set.
trait Dot: Copy {
    type V: Copy;
    /// A vector of these numbers.
    fn load(self, numbers: [i32; OUTPUTS]) -> Self::V;
    /// Its numbers.
    fn store(self, v: Self::V) -> [i32; OUTPUTS];
    /// `x` in every place.
    fn splat(self, x: i32) -> Self::V;
    /// Adds to each sum the products of two words with sign of `x` with those of `w`, or of four bytes of `x`, without sign, with those of `w`, with sign.
    fn dot<const QUADS: bool>(self, sums: Self::V, x: Self::V, w: Self::V) -> Self::V;
}

/// A processor with AVX-512 VNNI.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Vnni(());

#[cfg(target_arch = "x86_64")]
impl Vnni {
    /// The token, if this processor has the instructions.
    pub(super) fn detect() -> Option<Vnni> {
        let present =
            std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vnni");
        present.then_some(Vnni(()))
    }

    /// Computes the sums of `rows` rows of pairs, or of quads.
    ///
    /// # Panics
    /// The operands are too short.
    pub(super) fn run(self, operands: Operands<'_>, rows: usize, quads: bool) {
        match quads {
            // SAFETY: detection found the instructions (the token).
            true => unsafe { compiled::<true>(self, operands, rows) },
            // SAFETY: detection found the instructions (the token).
            false => unsafe { compiled::<false>(self, operands, rows) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn compiled<const QUADS: bool>(token: Vnni, operands: Operands<'_>, rows: usize) {
    all::<_, QUADS>(token, operands, rows);
}

#[cfg(target_arch = "x86_64")]
impl Dot for Vnni {
    type V = __m512i;

    #[inline(always)]
    fn load(self, numbers: [i32; OUTPUTS]) -> __m512i {
        bytemuck::cast(numbers)
    }
    #[inline(always)]
    fn store(self, v: __m512i) -> [i32; OUTPUTS] {
        bytemuck::cast(v)
    }
    #[inline(always)]
    fn splat(self, x: i32) -> __m512i {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    fn dot<const QUADS: bool>(self, sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
        match QUADS {
            // SAFETY: VNNI is present (the token).
            true => unsafe { _mm512_dpbusd_epi32(sums, x, w) },
            // SAFETY: VNNI is present (the token).
            false => unsafe { _mm512_dpwssd_epi32(sums, x, w) },
        }
    }
}

#[inline(always)]
fn all<D: Dot, const QUADS: bool>(d: D, mut operands: Operands<'_>, rows: usize) {
    let groups = operands.bias.len();
    let mut first = 0;
    while first < rows {
        let tile_rows = match rows - first {
            ROWS.. => ROWS,
            4.. => 4,
            _ => 1,
        };
        for group in (0..groups).step_by(2) {
            match (tile_rows, groups - group) {
                (ROWS, 1) => tile::<D, ROWS, 1, QUADS>(d, &mut operands, first, group),
                (ROWS, _) => tile::<D, ROWS, 2, QUADS>(d, &mut operands, first, group),
                (4, 1) => tile::<D, 4, 1, QUADS>(d, &mut operands, first, group),
                (4, _) => tile::<D, 4, 2, QUADS>(d, &mut operands, first, group),
                (_, 1) => tile::<D, 1, 1, QUADS>(d, &mut operands, first, group),
                _ => tile::<D, 1, 2, QUADS>(d, &mut operands, first, group),
            }
        }
        first += tile_rows;
    }
}

/// `R` rows from `first` on of `G` groups from `group` on.
#[inline(always)]
fn tile<D: Dot, const R: usize, const G: usize, const QUADS: bool>(
    d: D,
    operands: &mut Operands<'_>,
    first: usize,
    group: usize,
) {
    let Operands { x, stride, weights, steps, bias, out } = operands;
    let (stride, steps, groups) = (*stride, *steps, bias.len());
    let x = &x[first * stride..][..(R - 1) * stride + STEP * steps];
    let weights: [&[[u8; STEP * OUTPUTS]]; G] = std::array::from_fn(|g| &weights[(group + g) * steps..][..steps]);
    let biases: [D::V; G] = std::array::from_fn(|g| d.load(bias[group + g]));
    let mut sums = [biases; R];
    for step in 0..steps {
        let mut vectors = biases;
        for (vector, weights) in vectors.iter_mut().zip(weights) {
            *vector = d.load(bytemuck::cast(weights[step]));
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: r < R and step < steps, so that four bytes are within the slice, whose length was checked above.
            let inputs = unsafe { x.as_ptr().add(r * stride + STEP * step).cast::<i32>().read_unaligned() };
            let inputs = d.splat(inputs);
            for (sum, weights) in sums.iter_mut().zip(vectors) {
                *sum = d.dot::<QUADS>(*sum, inputs, weights);
            }
        }
    }
    for (out, sums) in out[first * groups + group..].chunks_mut(groups).zip(sums) {
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = d.store(sum);
        }
    }
}

#[cfg(test)]
pub(super) mod emulated {
    use super::*;

    /// The two instructions as their manual defines them (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, `VPDPBUSD` and `VPDPWSSD`).
    #[derive(Clone, Copy)]
    struct Emulated;

    impl Dot for Emulated {
        type V = [i32; OUTPUTS];

        fn load(self, numbers: [i32; OUTPUTS]) -> Self::V {
            numbers
        }
        fn store(self, v: Self::V) -> [i32; OUTPUTS] {
            v
        }
        fn splat(self, x: i32) -> Self::V {
            [x; OUTPUTS]
        }
        fn dot<const QUADS: bool>(self, sums: Self::V, x: Self::V, w: Self::V) -> Self::V {
            std::array::from_fn(|o| match QUADS {
                true => {
                    let (x, w) = (x[o].to_le_bytes(), w[o].to_le_bytes());
                    x.iter().zip(w).fold(sums[o], |sum, (&x, w)| sum + i32::from(x) * i32::from(w as i8))
                }
                false => {
                    let half = |v: i32, i: u32| i32::from((v >> (16 * i)) as i16);
                    (0..2).fold(sums[o], |sum, i| sum + half(x[o], i) * half(w[o], i))
                }
            })
        }
    }

    /// As [`Vnni::run`](super::Vnni::run), on any processor.
    pub(in crate::simd) fn run(operands: Operands<'_>, rows: usize, quads: bool) {
        match quads {
            true => all::<_, true>(Emulated, operands, rows),
            false => all::<_, false>(Emulated, operands, rows),
        }
    }
}
