//! AVX2 with FMA and AVX-512, from `core::arch`: present in any x86-64 build, chosen at run time.
#![allow(unsafe_code)] // reason: intrinsics; each runs only below a token that detection made

use super::isa::{Simd, SparseEntry};
use super::planes::{PlaneTile, plane_tile};
use super::tile::{ProductTile, RankTile, Tiled, product_tile, rank_tile};
use std::arch::x86_64::*;

/// Proof that this processor has AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, if this processor has them.
    pub fn detect() -> Option<Avx2> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Avx2(()))
    }
}

/// Proof that this processor has AVX-512 F, VL, DQ and BW.
#[derive(Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, if this processor has them.
    pub fn detect() -> Option<Avx512> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && Avx2::detect().is_some())
        .then_some(Avx512(()))
    }
}

/// The lanes' indices, which are compared with a number of lanes to make a mask.
const LANE: [i32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

impl Avx2 {
    #[inline(always)]
    fn mask(self, lanes: usize) -> __m256i {
        // SAFETY: AVX2 is present (the token); LANE is eight numbers long.
        unsafe {
            let lane = _mm256_loadu_si256(LANE.as_ptr().cast());
            _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes.min(8) as i32), lane)
        }
    }
}

impl Simd for Avx2 {
    type V = __m256;
    type Mask = __m256;
    type Argmax = __m256i;
    const LANES: usize = 8;

    #[inline(always)]
    fn zero(self) -> __m256 {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: AVX2 is present (the token); the caller's contract.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m256) {
        // SAFETY: AVX2 is present (the token); the caller's contract.
        unsafe { _mm256_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, lanes: usize) -> __m256 {
        // SAFETY: AVX2 is present (the token); masked lanes are not touched.
        unsafe { _mm256_maskload_ps(from, self.mask(lanes)) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, lanes: usize, v: __m256) {
        // SAFETY: AVX2 is present (the token); masked lanes are not touched.
        unsafe { _mm256_maskstore_ps(to, self.mask(lanes), v) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: FMA is present (the token).
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn gt(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_cmp_ps::<_CMP_GT_OQ>(a, b) }
    }
    #[inline(always)]
    fn le(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_cmp_ps::<_CMP_LE_OQ>(a, b) }
    }
    #[inline(always)]
    fn select(self, mask: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_blendv_ps(b, a, mask) }
    }
    #[inline(always)]
    fn splat_argmax(self, index: u8) -> __m256i {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_set1_epi32(i32::from(index)) }
    }
    #[inline(always)]
    fn masked_max(self, mask: __m256, index: u8, argmax: __m256i) -> __m256i {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(mask), self.splat_argmax(index)), argmax) }
    }
    #[inline(always)]
    fn argmax_eq(self, argmax: __m256i, index: u8) -> __m256 {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_castsi256_ps(_mm256_cmpeq_epi32(argmax, self.splat_argmax(index))) }
    }
    #[inline(always)]
    fn argmax_lt(self, argmax: __m256i, end: u8) -> __m256 {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_castsi256_ps(_mm256_cmpgt_epi32(self.splat_argmax(end), argmax)) }
    }
    #[inline(always)]
    fn masked_increment(self, mask: __m256, counts: __m256i) -> __m256i {
        // SAFETY: AVX2 is present (the token).
        unsafe { _mm256_sub_epi32(counts, _mm256_castps_si256(mask)) } // -1 where it is set
    }
    #[inline(always)]
    unsafe fn store_counts(self, to: *mut u32, argmax: __m256i) {
        // SAFETY: AVX2 is present (the token); the caller's contract.
        unsafe { _mm256_storeu_si256(to.cast(), argmax) }
    }
    #[inline(always)]
    unsafe fn store_entries(self, to: *mut SparseEntry, argmax: __m256i, first: u32, step: u32, numbers: __m256) {
        // SAFETY: AVX2 is present (the token); the caller's contract.
        unsafe {
            let at = _mm256_mullo_epi32(argmax, _mm256_set1_epi32(step as i32));
            let at = _mm256_add_epi32(at, _mm256_set1_epi32(first as i32));
            let numbers = _mm256_castps_si256(numbers);
            // Lanes 0, 1, 4, 5 and 2, 3, 6, 7.
            let (low, high) = (_mm256_unpacklo_epi32(at, numbers), _mm256_unpackhi_epi32(at, numbers));
            let to = to.cast::<__m256i>();
            _mm256_storeu_si256(to, _mm256_permute2x128_si256::<0x20>(low, high));
            _mm256_storeu_si256(to.add(1), _mm256_permute2x128_si256::<0x31>(low, high));
        }
    }
    #[inline(always)]
    unsafe fn load_argmax(self, from: *const u8, lanes: usize) -> __m256i {
        // SAFETY: AVX2 is present (the token); the caller's contract, and at most eight bytes go into the array of eight.
        unsafe {
            let bytes = if lanes >= 8 {
                _mm_loadl_epi64(from.cast())
            } else {
                let mut all = [0u8; 8];
                from.copy_to_nonoverlapping(all.as_mut_ptr(), lanes);
                _mm_loadl_epi64(all.as_ptr().cast())
            };
            _mm256_cvtepu8_epi32(bytes)
        }
    }
    #[inline(always)]
    unsafe fn store_argmax(self, to: *mut u8, lanes: usize, argmax: __m256i) {
        // SAFETY: AVX2 is present (the token); the caller's contract, and at most eight bytes come out of the array of eight.
        unsafe {
            let words = _mm_packus_epi32(_mm256_castsi256_si128(argmax), _mm256_extracti128_si256::<1>(argmax));
            let bytes = _mm_packus_epi16(words, words);
            if lanes >= 8 {
                _mm_storel_epi64(to.cast(), bytes);
            } else {
                let mut all = [0u8; 8];
                _mm_storel_epi64(all.as_mut_ptr().cast(), bytes);
                to.copy_from_nonoverlapping(all.as_ptr(), lanes);
            }
        }
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: __m256) {
        // SAFETY: AVX2 is present (the token); the caller's contract, and the address is aligned where that is needed.
        unsafe { if to.addr().is_multiple_of(32) { _mm256_stream_ps(to, v) } else { _mm256_storeu_ps(to, v) } }
    }
    #[inline(always)]
    fn fence(self) {
        // SAFETY: every x86-64 has SSE.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn lookup<const K: usize>(self, from: *const f32, at: __m256i) -> [__m256; K] {
        // SAFETY: AVX2 is present (the token); the caller's contract.
        unsafe {
            // Four numbers in either half, chosen there: across halves takes four times as long on EPYC Zen 1.
            std::array::from_fn(|t| {
                let four = _mm_loadu_ps(from.add(t));
                _mm256_permutevar_ps(_mm256_set_m128(four, four), at)
            })
        }
    }
    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        // SAFETY: a prefetch faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    fn prefetch_write(self, at: *const u8) {
        // SAFETY: a prefetch faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) }
    }
    #[inline(always)]
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Tiled for Avx2 {
    const TILE_VECTORS: usize = 2;

    // 6 x 2 accumulators + 2 weights + 1 broadcast = 15 of 16 registers; 12 x 1 + 1 + 1 = 14.
    #[inline(always)]
    fn product_rows(vectors: usize) -> usize {
        if vectors == 1 { 12 } else { 6 }
    }
    #[inline(always)]
    unsafe fn product_tile(self, vectors: usize, rows: usize, t: &ProductTile) {
        // SAFETY: the caller's contract.
        unsafe {
            match (vectors, rows) {
                (1, 1) => product_tile::<Self, 1, 1>(self, t),
                (1, 2) => product_tile::<Self, 2, 1>(self, t),
                (1, 4) => product_tile::<Self, 4, 1>(self, t),
                (1, _) => product_tile::<Self, 12, 1>(self, t),
                (_, 1) => product_tile::<Self, 1, 2>(self, t),
                (_, 2) => product_tile::<Self, 2, 2>(self, t),
                (_, 4) => product_tile::<Self, 4, 2>(self, t),
                (_, _) => product_tile::<Self, 6, 2>(self, t),
            }
        }
    }
    #[inline(always)]
    fn rank_vectors(outputs: usize) -> usize {
        outputs.div_ceil(8).min(2)
    }
    #[inline(always)]
    fn rank_rows(vectors: usize, rows: usize) -> usize {
        match (vectors, rows) {
            (1, 12..) => 12,
            (2.., 6..) => 6,
            (_, 4..) => 4,
            (_, 2..) => 2,
            _ => 1,
        }
    }
    #[inline(always)]
    unsafe fn rank_tile(self, vectors: usize, rows: usize, t: &RankTile) {
        // SAFETY: the caller's contract.
        unsafe {
            match (vectors, rows) {
                (1, 12) => rank_tile::<Self, 12, 1>(self, t),
                (1, 4) => rank_tile::<Self, 4, 1>(self, t),
                (1, 2) => rank_tile::<Self, 2, 1>(self, t),
                (1, _) => rank_tile::<Self, 1, 1>(self, t),
                (_, 6) => rank_tile::<Self, 6, 2>(self, t),
                (_, 4) => rank_tile::<Self, 4, 2>(self, t),
                (_, 2) => rank_tile::<Self, 2, 2>(self, t),
                (_, _) => rank_tile::<Self, 1, 2>(self, t),
            }
        }
    }
    #[inline(always)]
    unsafe fn plane_tile<const STRIDE: usize>(self, vectors: usize, t: &PlaneTile) {
        // SAFETY: the caller's contract.
        unsafe {
            match vectors {
                1 => plane_tile::<Self, 12, 1, STRIDE>(self, t),
                _ => plane_tile::<Self, 6, 2, STRIDE>(self, t),
            }
        }
    }
}

/// Lanes of two vectors in turn: of the first, and from 16 on of the second.
const PAIRS: [[i32; 16]; 2] = [
    [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23],
    [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31],
];

impl Avx512 {
    #[inline(always)]
    fn mask(self, lanes: usize) -> __mmask16 {
        ((1u32 << lanes.min(16)) - 1) as __mmask16
    }
}

impl Simd for Avx512 {
    type V = __m512;
    type Mask = __mmask16;
    type Argmax = __m512i;
    const LANES: usize = 16;

    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: AVX-512 is present (the token); the caller's contract.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m512) {
        // SAFETY: AVX-512 is present (the token); the caller's contract.
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, lanes: usize) -> __m512 {
        // SAFETY: AVX-512 is present (the token); masked lanes are not touched.
        unsafe { _mm512_maskz_loadu_ps(self.mask(lanes), from) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, lanes: usize, v: __m512) {
        // SAFETY: AVX-512 is present (the token); masked lanes are not touched.
        unsafe { _mm512_mask_storeu_ps(to, self.mask(lanes), v) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn gt(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) }
    }
    #[inline(always)]
    fn le(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b) }
    }
    #[inline(always)]
    fn select(self, mask: __mmask16, a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_mask_blend_ps(mask, b, a) }
    }
    #[inline(always)]
    fn splat_argmax(self, index: u8) -> __m512i {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_set1_epi32(i32::from(index)) }
    }
    #[inline(always)]
    fn masked_max(self, mask: __mmask16, index: u8, argmax: __m512i) -> __m512i {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_mask_max_epi32(argmax, mask, argmax, self.splat_argmax(index)) }
    }
    #[inline(always)]
    fn argmax_eq(self, argmax: __m512i, index: u8) -> __mmask16 {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_cmpeq_epi32_mask(argmax, self.splat_argmax(index)) }
    }
    #[inline(always)]
    fn argmax_lt(self, argmax: __m512i, end: u8) -> __mmask16 {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_cmplt_epi32_mask(argmax, self.splat_argmax(end)) }
    }
    #[inline(always)]
    fn masked_increment(self, mask: __mmask16, counts: __m512i) -> __m512i {
        // SAFETY: AVX-512 is present (the token).
        unsafe { _mm512_mask_add_epi32(counts, mask, counts, self.splat_argmax(1)) }
    }
    #[inline(always)]
    unsafe fn store_counts(self, to: *mut u32, argmax: __m512i) {
        // SAFETY: AVX-512 is present (the token); the caller's contract.
        unsafe { _mm512_storeu_si512(to.cast(), argmax) }
    }
    #[inline(always)]
    unsafe fn store_entries(self, to: *mut SparseEntry, argmax: __m512i, first: u32, step: u32, numbers: __m512) {
        // SAFETY: AVX-512 is present (the token); the caller's contract.
        unsafe {
            let at = _mm512_mullo_epi32(argmax, _mm512_set1_epi32(step as i32));
            let at = _mm512_add_epi32(at, _mm512_set1_epi32(first as i32));
            let numbers = _mm512_castps_si512(numbers);
            let low = _mm512_loadu_si512(PAIRS[0].as_ptr().cast());
            let high = _mm512_loadu_si512(PAIRS[1].as_ptr().cast());
            let to = to.cast::<__m512i>();
            _mm512_storeu_si512(to, _mm512_permutex2var_epi32(at, low, numbers));
            _mm512_storeu_si512(to.add(1), _mm512_permutex2var_epi32(at, high, numbers));
        }
    }
    #[inline(always)]
    unsafe fn load_argmax(self, from: *const u8, lanes: usize) -> __m512i {
        // SAFETY: AVX-512 is present (the token); masked lanes are not touched.
        unsafe {
            let bytes = if lanes >= 16 {
                _mm_loadu_si128(from.cast())
            } else {
                _mm_maskz_loadu_epi8(self.mask(lanes), from.cast())
            };
            _mm512_cvtepu8_epi32(bytes)
        }
    }
    #[inline(always)]
    unsafe fn store_argmax(self, to: *mut u8, lanes: usize, argmax: __m512i) {
        // SAFETY: AVX-512 is present (the token); masked lanes are not touched.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(argmax);
            if lanes >= 16 {
                _mm_storeu_si128(to.cast(), bytes);
            } else {
                _mm_mask_storeu_epi8(to.cast(), self.mask(lanes), bytes);
            }
        }
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: __m512) {
        // SAFETY: AVX-512 is present (the token); the caller's contract, and the address is aligned where that is needed.
        unsafe { if to.addr().is_multiple_of(64) { _mm512_stream_ps(to, v) } else { _mm512_storeu_ps(to, v) } }
    }
    #[inline(always)]
    fn fence(self) {
        // SAFETY: every x86-64 has SSE.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn lookup<const K: usize>(self, from: *const f32, at: __m512i) -> [__m512; K] {
        // SAFETY: AVX-512 is present (the token); the caller's contract.
        unsafe { std::array::from_fn(|t| _mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(from.add(t))), at)) }
    }
    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        // SAFETY: a prefetch faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    fn prefetch_write(self, at: *const u8) {
        // SAFETY: a prefetch faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) }
    }
    #[inline(always)]
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Tiled for Avx512 {
    const TILE_VECTORS: usize = 4;

    // Of 32 registers: 6 x 4 + 4 weights + 1 broadcast = 29; 8 x 3 + 3 + 1 = 28; 12 x 2 + 2 + 1 = 27; 12 x 1 + 1 + 1 = 14.
    #[inline(always)]
    fn product_rows(vectors: usize) -> usize {
        match vectors {
            1 | 2 => 12,
            3 => 8,
            _ => 6,
        }
    }
    #[inline(always)]
    unsafe fn product_tile(self, vectors: usize, rows: usize, t: &ProductTile) {
        // SAFETY: the caller's contract.
        unsafe {
            match (vectors, rows) {
                (1, 1) => product_tile::<Self, 1, 1>(self, t),
                (1, 2) => product_tile::<Self, 2, 1>(self, t),
                (1, 4) => product_tile::<Self, 4, 1>(self, t),
                (1, _) => product_tile::<Self, 12, 1>(self, t),
                (2, 1) => product_tile::<Self, 1, 2>(self, t),
                (2, 2) => product_tile::<Self, 2, 2>(self, t),
                (2, 4) => product_tile::<Self, 4, 2>(self, t),
                (2, _) => product_tile::<Self, 12, 2>(self, t),
                (3, 1) => product_tile::<Self, 1, 3>(self, t),
                (3, 2) => product_tile::<Self, 2, 3>(self, t),
                (3, 4) => product_tile::<Self, 4, 3>(self, t),
                (3, _) => product_tile::<Self, 8, 3>(self, t),
                (_, 1) => product_tile::<Self, 1, 4>(self, t),
                (_, 2) => product_tile::<Self, 2, 4>(self, t),
                (_, 4) => product_tile::<Self, 4, 4>(self, t),
                (_, _) => product_tile::<Self, 6, 4>(self, t),
            }
        }
    }
    #[inline(always)]
    fn rank_vectors(outputs: usize) -> usize {
        match outputs.div_ceil(16) {
            v @ 1..=4 => v,
            5 => 3,
            _ => 4,
        }
    }
    #[inline(always)]
    fn rank_rows(vectors: usize, rows: usize) -> usize {
        match (vectors, rows) {
            (1 | 2, 12..) => 12,
            (3, 8..) => 8,
            (4.., 6..) => 6,
            (_, 4..) => 4,
            (_, 2..) => 2,
            _ => 1,
        }
    }
    #[inline(always)]
    unsafe fn rank_tile(self, vectors: usize, rows: usize, t: &RankTile) {
        // SAFETY: the caller's contract.
        unsafe {
            match (vectors, rows) {
                (1, 12) => rank_tile::<Self, 12, 1>(self, t),
                (1, 4) => rank_tile::<Self, 4, 1>(self, t),
                (1, 2) => rank_tile::<Self, 2, 1>(self, t),
                (1, _) => rank_tile::<Self, 1, 1>(self, t),
                (2, 12) => rank_tile::<Self, 12, 2>(self, t),
                (2, 4) => rank_tile::<Self, 4, 2>(self, t),
                (2, 2) => rank_tile::<Self, 2, 2>(self, t),
                (2, _) => rank_tile::<Self, 1, 2>(self, t),
                (3, 8) => rank_tile::<Self, 8, 3>(self, t),
                (3, 4) => rank_tile::<Self, 4, 3>(self, t),
                (3, 2) => rank_tile::<Self, 2, 3>(self, t),
                (3, _) => rank_tile::<Self, 1, 3>(self, t),
                (_, 6) => rank_tile::<Self, 6, 4>(self, t),
                (_, 4) => rank_tile::<Self, 4, 4>(self, t),
                (_, 2) => rank_tile::<Self, 2, 4>(self, t),
                (_, _) => rank_tile::<Self, 1, 4>(self, t),
            }
        }
    }
    #[inline(always)]
    unsafe fn plane_tile<const STRIDE: usize>(self, vectors: usize, t: &PlaneTile) {
        // SAFETY: the caller's contract.
        unsafe {
            match vectors {
                1 => plane_tile::<Self, 12, 1, STRIDE>(self, t),
                2 => plane_tile::<Self, 12, 2, STRIDE>(self, t),
                3 => plane_tile::<Self, 8, 3, STRIDE>(self, t),
                _ => plane_tile::<Self, 6, 4, STRIDE>(self, t),
            }
        }
    }
}
