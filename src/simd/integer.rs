//! Products of integers, summed in 32 bits: the convolutions and dense layers of networks in integers.
//!
//! Inputs of 16 bits are taken in pairs and inputs of 8 bits in quads, which are 32 bits both: one vector has the pairs or quads of weights of 8 or 16 outputs, and
//! one pair or quad of inputs is broadcast to all its lanes. The sums are exact, so that every instruction set gives the same.
//!
//! | instruction set | registers | instructions |
//! |---|---|---|
//! | AVX2, pairs | 6 rows x 2 vectors of sums, 2 of weights, 1 of the input: 15 of 16 | `vpmaddwd`, `vpaddd` |
//! | AVX-512 VNNI, pairs and quads | 12 rows x 2 vectors of sums, 2 of weights, 1 of the input: 27 of 32 | `vpdpwssd`, `vpdpbusd` |
#![allow(unsafe_code)] // reason: loads through pointers, and entering a function compiled for an instruction set

use super::Isa;
#[cfg(any(target_arch = "x86_64", test))]
use super::vnni::Operands;
#[cfg(target_arch = "x86_64")]
use super::vnni::Vnni;

/// Outputs of a group, whose weights are next to each other: two vectors of AVX2, one of AVX-512.
pub(crate) const OUTPUTS: usize = 16;

/// The weights of two neighbouring inputs for each output of a group.
pub(crate) type Pairs = [[i16; 2]; OUTPUTS];

/// The weights of four neighbouring inputs for each output of a group.
pub(crate) type Quads = [[i8; 4]; OUTPUTS];

/// The input, and the weights `[groups, pairs]` or `[groups, quads]`.
#[derive(Clone, Copy)]
pub(crate) enum Factors<'a> {
    /// Of 16 bits, with weights of 16.
    Words(&'a [i16], &'a [Pairs]),
    /// Of 8 bits without a sign, with weights of 8 bits with one.
    Bytes(&'a [u8], &'a [Quads]),
}

/// Whether products of bytes are faster than of words: on processors with AVX-512 VNNI, if AVX-512 is used.
pub(crate) fn prefers_bytes(isa: Isa) -> bool {
    #[cfg(target_arch = "x86_64")]
    return vnni(isa).is_some();
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

#[cfg(target_arch = "x86_64")]
fn vnni(isa: Isa) -> Option<Vnni> {
    matches!(isa, Isa::Avx512(_)).then(Vnni::detect).flatten()
}

/// `out[r, o] = bias[o] + sum over i of x[r * stride + i] * weight[i, o]`, without overflow if no sum exceeds 32 bits in any order.
pub(crate) struct IntegerProduct<'a> {
    /// The input and the weights.
    pub factors: Factors<'a>,
    /// Numbers between the beginnings of neighbouring rows.
    pub stride: usize,
    /// `[groups]`.
    pub bias: &'a [[i32; OUTPUTS]],
    /// `[rows, groups]`.
    pub out: &'a mut [[i32; OUTPUTS]],
}

impl IntegerProduct<'_> {
    /// Computes the sums.
    ///
    /// # Panics
    /// The lengths do not agree.
    pub(crate) fn run(self, isa: Isa) {
        let (groups, rows) = (self.bias.len(), self.out.len() / self.bias.len().max(1));
        let (numbers, weights, width) = match self.factors {
            Factors::Words(x, weights) => (x.len(), weights.len(), 2),
            Factors::Bytes(x, weights) => (x.len(), weights.len(), 4),
        };
        let steps = weights / groups.max(1);
        assert!(groups > 0 && steps > 0 && groups * steps == weights && groups * rows == self.out.len(), "lengths");
        if rows == 0 {
            return;
        }
        let needed = (rows - 1).checked_mul(self.stride).and_then(|last| last.checked_add(width * steps));
        assert!(needed.is_some_and(|needed| needed <= numbers), "the input is too short");
        #[cfg(target_arch = "x86_64")]
        if let Some(vnni) = vnni(isa) {
            return self.in_bytes(steps, |operands, quads| vnni.run(operands, rows, quads));
        }
        match (isa, self.factors) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the tokens of both sets prove that the processor has AVX2.
            (Isa::Avx2(_) | Isa::Avx512(_), Factors::Words(x, weights)) => unsafe { avx2(self, x, weights, rows) },
            (_, Factors::Words(x, weights)) => portable(self, x, weights),
            (_, Factors::Bytes(x, weights)) => portable(self, x, weights),
        }
    }
}

#[cfg(any(target_arch = "x86_64", test))]
impl IntegerProduct<'_> {
    /// Calls `run` with the operands in bytes, and whether they are quads.
    fn in_bytes(self, steps: usize, run: impl FnOnce(Operands<'_>, bool)) {
        let IntegerProduct { factors, stride, bias, out } = self;
        match factors {
            Factors::Words(x, weights) => {
                let (x, weights) = (bytemuck::cast_slice(x), bytemuck::cast_slice(weights));
                run(Operands { x, stride: 2 * stride, weights, steps, bias, out }, false);
            }
            Factors::Bytes(x, weights) => {
                run(Operands { x, stride, weights: bytemuck::cast_slice(weights), steps, bias, out }, true);
            }
        }
    }
}

fn portable<X: Copy + Into<i32>, W: Copy + Into<i32>, const N: usize>(
    p: IntegerProduct<'_>,
    x: &[X],
    weights: &[[[W; N]; OUTPUTS]],
) {
    let groups = p.bias.len();
    let steps = weights.len() / groups;
    for (r, out) in p.out.chunks_exact_mut(groups).enumerate() {
        let x = x[r * p.stride..][..N * steps].chunks_exact(N);
        for ((out, bias), weights) in out.iter_mut().zip(p.bias).zip(weights.chunks(steps)) {
            *out = *bias;
            for (x, weights) in x.clone().zip(weights) {
                for (sum, weights) in out.iter_mut().zip(weights) {
                    *sum += x.iter().zip(weights).map(|(&x, &w)| x.into() * w.into()).sum::<i32>();
                }
            }
        }
    }
}

/// Rows of a tile of AVX2.
#[cfg(target_arch = "x86_64")]
const ROWS: usize = 6;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(p: IntegerProduct<'_>, x: &[i16], weights: &[Pairs], rows: usize) {
    let groups = p.bias.len();
    let pairs = weights.len() / groups;
    for first in (0..rows).step_by(ROWS) {
        for group in 0..groups {
            let weights = &weights[group * pairs..][..pairs];
            let out = &mut p.out[first * groups + group..];
            let x = &x[first * p.stride..];
            match rows - first {
                1 => tile::<1>(x, p.stride, weights, &p.bias[group], out, groups),
                2 => tile::<2>(x, p.stride, weights, &p.bias[group], out, groups),
                3 => tile::<3>(x, p.stride, weights, &p.bias[group], out, groups),
                4 => tile::<4>(x, p.stride, weights, &p.bias[group], out, groups),
                5 => tile::<5>(x, p.stride, weights, &p.bias[group], out, groups),
                _ => tile::<ROWS>(x, p.stride, weights, &p.bias[group], out, groups),
            }
        }
    }
}

/// `R` rows of a group; the rows of `out` are `groups` apart.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn tile<const R: usize>(
    x: &[i16],
    stride: usize,
    weights: &[Pairs],
    bias: &[i32; OUTPUTS],
    out: &mut [[i32; OUTPUTS]],
    groups: usize,
) {
    use std::arch::x86_64::{__m256i, _mm256_add_epi32, _mm256_madd_epi16, _mm256_set1_epi32};
    let x = &x[..(R - 1) * stride + 2 * weights.len()];
    let mut sums: [[__m256i; 2]; R] = [bytemuck::cast(*bias); R];
    for (p, weights) in weights.iter().enumerate() {
        let [low, high]: [__m256i; 2] = bytemuck::cast(*weights);
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: r < R and p < weights.len(), so that both numbers are within the slice, whose length was checked above.
            let pair = unsafe { x.as_ptr().add(r * stride + 2 * p).cast::<i32>().read_unaligned() };
            let pair = _mm256_set1_epi32(pair);
            sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(pair, low));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(pair, high));
        }
    }
    for (out, sums) in out.iter_mut().step_by(groups).zip(sums) {
        *out = bytemuck::cast(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::super::vnni::emulated;
    use super::*;
    use crate::base::rng::{Key, Stream};

    /// Rows, stride in numbers, steps, groups.
    const CASES: [(usize, usize, usize, usize); 7] =
        [(1, 0, 1, 1), (6, 32, 80, 2), (7, 3, 5, 1), (23, 2, 1, 1), (11, 1, 4, 3), (12, 8, 9, 2), (30, 5, 7, 5)];

    /// Compares the sums of every instruction set with those of the definition; `N` numbers are a step.
    fn compare<X, W, const N: usize>(
        x: impl Fn(usize) -> X,
        weight: impl Fn(usize, usize, usize) -> W,
        factors: impl Fn(&[X], &[[[W; N]; OUTPUTS]], &mut dyn FnMut(Factors<'_>)),
    ) where
        X: Copy + Into<i32>,
        W: Copy + Into<i32>,
    {
        for (rows, stride, steps, groups) in CASES {
            let x: Vec<X> = (0..(rows - 1) * stride + N * steps).map(&x).collect();
            let step = |g: usize, s: usize| -> [[W; N]; OUTPUTS] {
                std::array::from_fn(|o| std::array::from_fn(|i| weight(g, N * s + i, o)))
            };
            let weights: Vec<_> = (0..groups).flat_map(|g| (0..steps).map(move |s| (g, s))).collect();
            let weights: Vec<_> = weights.into_iter().map(|(g, s)| step(g, s)).collect();
            let bias: Vec<[i32; OUTPUTS]> =
                (0..groups).map(|g| std::array::from_fn(|o| (g * 1000 + o) as i32)).collect();
            // The tiles of VNNI with emulated instructions are the last.
            for isa in Isa::all().into_iter().map(Some).chain([None]) {
                let mut out = vec![[i32::MIN; OUTPUTS]; rows * groups];
                factors(&x, &weights, &mut |factors| {
                    let product = IntegerProduct { factors, stride, bias: &bias, out: &mut out };
                    match isa {
                        Some(isa) => product.run(isa),
                        None => product.in_bytes(steps, |operands, quads| emulated::run(operands, rows, quads)),
                    }
                });
                for (place, sum) in out.as_flattened().iter().enumerate() {
                    let (r, g, o) = (place / OUTPUTS / groups, place / OUTPUTS % groups, place % OUTPUTS);
                    let term = |i: usize| -> i32 { x[r * stride + i].into() * weight(g, i, o).into() };
                    let expected = bias[g][o] + (0..N * steps).map(term).sum::<i32>();
                    assert_eq!(*sum, expected, "{isa:?}: {rows} rows, stride {stride}, {steps} steps, {r} {g} {o}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_sums_of_the_definition() {
        let key = Key::new(5, Stream::Case);
        let number = |i: usize, from: i32, to: i32| from + key.below(i as u64, (to - from + 1) as u64) as i32;
        let weight = |g: usize, i: usize, o: usize| number((g * 999 + i) * 16 + o, -128, 127);
        compare::<i16, i16, 2>(
            |i| number(i, -32_768, 32_767) as i16,
            |g, i, o| weight(g, i, o) as i16,
            |x, weights, run| run(Factors::Words(x, weights)),
        );
        compare::<u8, i8, 4>(
            |i| number(i, 0, 255) as u8,
            |g, i, o| weight(g, i, o) as i8,
            |x, weights, run| run(Factors::Bytes(x, weights)),
        );
        // Sums of two products of the largest numbers exceed 16 bits, where an instruction with saturation differs.
        compare::<u8, i8, 4>(|_| 255, |_, _, _| -128, |x, weights, run| run(Factors::Bytes(x, weights)));
    }
}
