//! Products of 16-bit integers, summed in 32 bits: the convolutions and dense layers of networks in integers.
#![allow(unsafe_code)] // reason: loads through pointers, and entering a function compiled for AVX2

use super::Isa;

/// Outputs that are computed at once: two vectors of eight sums.
pub(crate) const OUTPUTS: usize = 16;

/// Rows of a tile: with two vectors of weights and one of the input, 15 of the 16 registers are used.
const ROWS: usize = 6;

/// The weights of two neighbouring inputs for each of some outputs.
pub(crate) type Pairs = [[i16; 2]; OUTPUTS];

/// `out[r, o] = bias[o] + sum over p of x[r * stride + p] * weight[p, o]`, without overflow if no sum exceeds 32 bits in any order.
///
/// Outputs are in groups of [`OUTPUTS`], inputs in pairs. The sums are exact, so that every instruction set gives the same.
pub(crate) struct IntegerProduct<'a> {
    /// The input.
    pub x: &'a [i16],
    /// Numbers between the beginnings of neighbouring rows.
    pub stride: usize,
    /// `[groups, pairs]`.
    pub weights: &'a [Pairs],
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
        let pairs = self.weights.len() / groups.max(1);
        assert!(
            groups > 0 && pairs > 0 && groups * pairs == self.weights.len() && groups * rows == self.out.len(),
            "lengths"
        );
        if rows == 0 {
            return;
        }
        let needed = (rows - 1).checked_mul(self.stride).and_then(|last| last.checked_add(2 * pairs));
        assert!(needed.is_some_and(|needed| needed <= self.x.len()), "the input is too short");
        match isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the tokens of both sets prove that the processor has AVX2.
            Isa::Avx2(_) | Isa::Avx512(_) => unsafe { avx2(self, pairs, rows) },
            Isa::Scalar | Isa::Wide => portable(self, pairs),
        }
    }
}

fn portable(p: IntegerProduct<'_>, pairs: usize) {
    let groups = p.bias.len();
    for (r, out) in p.out.chunks_exact_mut(groups).enumerate() {
        let x = p.x[r * p.stride..][..2 * pairs].chunks_exact(2);
        for ((out, bias), weights) in out.iter_mut().zip(p.bias).zip(p.weights.chunks(pairs)) {
            *out = *bias;
            for (x, weights) in x.clone().zip(weights) {
                let [a, b] = [i32::from(x[0]), i32::from(x[1])];
                out.iter_mut().zip(weights).for_each(|(sum, w)| *sum += a * i32::from(w[0]) + b * i32::from(w[1]));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(p: IntegerProduct<'_>, pairs: usize, rows: usize) {
    let groups = p.bias.len();
    for first in (0..rows).step_by(ROWS) {
        for group in 0..groups {
            let weights = &p.weights[group * pairs..][..pairs];
            let out = &mut p.out[first * groups + group..];
            let x = &p.x[first * p.stride..];
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
    use super::*;
    use crate::base::rng::{Key, Stream};

    #[test]
    fn every_instruction_set_gives_the_sums_of_the_definition() {
        let key = Key::new(5, Stream::Case);
        let number = |i: usize, size: u64| (key.below(i as u64, 2 * size) as i64 - size as i64) as i16;
        for (rows, stride, pairs, groups) in [(1, 0, 1, 1), (6, 32, 80, 2), (7, 3, 5, 1), (23, 2, 1, 1), (11, 1, 4, 3)]
        {
            let x: Vec<i16> = (0..(rows - 1) * stride + 2 * pairs).map(|i| number(i, 32_768)).collect();
            let weight = |g: usize, p: usize, o: usize, half: usize| number(((g * 99 + p) * 16 + o) * 2 + half, 128);
            let pairs_of = |g: usize| {
                (0..pairs).map(move |p| -> Pairs { std::array::from_fn(|o| [weight(g, p, o, 0), weight(g, p, o, 1)]) })
            };
            let weights: Vec<Pairs> = (0..groups).flat_map(pairs_of).collect();
            let bias: Vec<[i32; OUTPUTS]> =
                (0..groups).map(|g| std::array::from_fn(|o| (g * 1000 + o) as i32)).collect();
            for isa in Isa::all() {
                let mut out = vec![[i32::MIN; OUTPUTS]; rows * groups];
                IntegerProduct { x: &x, stride, weights: &weights, bias: &bias, out: &mut out }.run(isa);
                for r in 0..rows {
                    for g in 0..groups {
                        for o in 0..OUTPUTS {
                            let term = |p: usize| i32::from(x[r * stride + p]) * i32::from(weight(g, p / 2, o, p % 2));
                            let expected = bias[g][o] + (0..2 * pairs).map(term).sum::<i32>();
                            assert_eq!(out[r * groups + g][o], expected, "{isa:?} {rows} {stride} {pairs} {r} {g} {o}");
                        }
                    }
                }
            }
        }
    }
}
