//! The two instruction sets of every processor: one number at a time, and the vectors of the crate `wide`.
#![allow(unsafe_code)] // reason: the vector contract reads and writes through pointers, so that tiles have no bounds checks

use super::isa::{Simd, SparseEntry};
use super::planes::{PlaneTile, plane_tile};
use super::tile::{ProductTile, RankTile, Tiled, product_tile, rank_tile};
use wide::{f32x8, i32x8};

/// One lane. Fused multiply-add like the vector sets, so that it gives their bits.
#[derive(Clone, Copy)]
pub struct Scalar;

impl Simd for Scalar {
    type V = f32;
    type Mask = bool;
    type Argmax = u8;
    const LANES: usize = 1;

    #[inline(always)]
    fn zero(self) -> f32 {
        0.0
    }
    #[inline(always)]
    fn splat(self, value: f32) -> f32 {
        value
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> f32 {
        // SAFETY: the caller's contract.
        unsafe { from.read() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: f32) {
        // SAFETY: the caller's contract.
        unsafe { to.write(v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, lanes: usize) -> f32 {
        // SAFETY: the caller's contract; with no lanes nothing is read.
        if lanes == 0 { 0.0 } else { unsafe { from.read() } }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, lanes: usize, v: f32) {
        if lanes > 0 {
            // SAFETY: the caller's contract.
            unsafe { to.write(v) }
        }
    }
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn max(self, a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }
    #[inline(always)]
    fn gt(self, a: f32, b: f32) -> bool {
        a > b
    }
    #[inline(always)]
    fn le(self, a: f32, b: f32) -> bool {
        a <= b
    }
    #[inline(always)]
    fn select(self, mask: bool, a: f32, b: f32) -> f32 {
        if mask { a } else { b }
    }
    #[inline(always)]
    fn splat_argmax(self, index: u8) -> u8 {
        index
    }
    #[inline(always)]
    fn masked_max(self, mask: bool, index: u8, argmax: u8) -> u8 {
        if mask { argmax.max(index) } else { argmax }
    }
    #[inline(always)]
    fn argmax_eq(self, argmax: u8, index: u8) -> bool {
        argmax == index
    }
    #[inline(always)]
    fn argmax_lt(self, argmax: u8, end: u8) -> bool {
        argmax < end
    }
    #[inline(always)]
    fn masked_increment(self, mask: bool, counts: u8) -> u8 {
        counts + u8::from(mask)
    }
    #[inline(always)]
    unsafe fn store_counts(self, to: *mut u32, argmax: u8) {
        // SAFETY: the caller's contract.
        unsafe { to.write(u32::from(argmax)) }
    }
    #[inline(always)]
    unsafe fn store_entries(self, to: *mut SparseEntry, argmax: u8, first: u32, step: u32, number: f32) {
        // SAFETY: the caller's contract.
        unsafe {
            to.write(SparseEntry { offset: first.wrapping_add(u32::from(argmax).wrapping_mul(step)), value: number })
        }
    }
    #[inline(always)]
    unsafe fn load_argmax(self, from: *const u8, lanes: usize) -> u8 {
        // SAFETY: the caller's contract; with no lanes nothing is read.
        if lanes == 0 { 0 } else { unsafe { from.read() } }
    }
    #[inline(always)]
    unsafe fn store_argmax(self, to: *mut u8, lanes: usize, argmax: u8) {
        if lanes > 0 {
            // SAFETY: the caller's contract.
            unsafe { to.write(argmax) }
        }
    }
    #[inline(always)]
    unsafe fn lookup<const K: usize>(self, from: *const f32, at: u8) -> [f32; K] {
        // SAFETY: the caller's contract.
        std::array::from_fn(|t| unsafe { *from.add(t + usize::from(at % 4)) })
    }
    #[inline(always)]
    fn prefetch(self, _at: *const u8) {}
    #[inline(always)]
    fn prefetch_write(self, _at: *const u8) {}
    #[inline(always)]
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Tiled for Scalar {
    const TILE_VECTORS: usize = 2;

    // 4 x 2 accumulators + 2 weights + 1 input = 11 of 16 registers.
    #[inline(always)]
    fn product_rows(_vectors: usize) -> usize {
        4
    }
    #[inline(always)]
    unsafe fn product_tile(self, vectors: usize, rows: usize, t: &ProductTile) {
        // SAFETY: the caller's contract.
        unsafe {
            match (vectors, rows) {
                (1, 1) => product_tile::<Self, 1, 1>(self, t),
                (1, 2) => product_tile::<Self, 2, 1>(self, t),
                (1, _) => product_tile::<Self, 4, 1>(self, t),
                (_, 1) => product_tile::<Self, 1, 2>(self, t),
                (_, 2) => product_tile::<Self, 2, 2>(self, t),
                (_, _) => product_tile::<Self, 4, 2>(self, t),
            }
        }
    }
    #[inline(always)]
    fn rank_vectors(outputs: usize) -> usize {
        outputs.min(2)
    }
    #[inline(always)]
    fn rank_rows(_vectors: usize, rows: usize) -> usize {
        if rows >= 4 { 4 } else { 1 }
    }
    #[inline(always)]
    unsafe fn rank_tile(self, vectors: usize, rows: usize, t: &RankTile) {
        // SAFETY: the caller's contract.
        unsafe {
            match (vectors, rows) {
                (1, 4) => rank_tile::<Self, 4, 1>(self, t),
                (1, _) => rank_tile::<Self, 1, 1>(self, t),
                (_, 4) => rank_tile::<Self, 4, 2>(self, t),
                _ => rank_tile::<Self, 1, 2>(self, t),
            }
        }
    }
    #[inline(always)]
    unsafe fn plane_tile<const STRIDE: usize>(self, vectors: usize, t: &PlaneTile) {
        // SAFETY: the caller's contract.
        unsafe {
            match vectors {
                1 => plane_tile::<Self, 4, 1, STRIDE>(self, t),
                _ => plane_tile::<Self, 4, 2, STRIDE>(self, t),
            }
        }
    }
}

/// Eight lanes of the crate `wide`: AVX2 under the repository's build flags, SSE2 in a plain x86-64 build, NEON on
/// 64-bit Arm. Multiply-add is rounded once only where the build's target has it.
#[derive(Clone, Copy)]
pub struct Wide;

impl Simd for Wide {
    type V = f32x8;
    type Mask = f32x8;
    type Argmax = i32x8;
    const LANES: usize = 8;

    #[inline(always)]
    fn zero(self) -> f32x8 {
        f32x8::ZERO
    }
    #[inline(always)]
    fn splat(self, value: f32) -> f32x8 {
        f32x8::splat(value)
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> f32x8 {
        // SAFETY: the caller's contract; an array of eight has no more alignment than one number.
        f32x8::new(unsafe { from.cast::<[f32; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: f32x8) {
        // SAFETY: as for `load`.
        unsafe { to.cast::<[f32; 8]>().write(v.to_array()) }
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, lanes: usize) -> f32x8 {
        let mut all = [0.0; 8];
        // SAFETY: the caller's contract; at most eight numbers go into the array of eight.
        unsafe { from.copy_to_nonoverlapping(all.as_mut_ptr(), lanes.min(8)) };
        f32x8::new(all)
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, lanes: usize, v: f32x8) {
        // SAFETY: the caller's contract; at most eight numbers come out of the array of eight.
        unsafe { to.copy_from_nonoverlapping(v.to_array().as_ptr(), lanes.min(8)) }
    }
    #[inline(always)]
    fn fma(self, a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn add(self, a: f32x8, b: f32x8) -> f32x8 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32x8, b: f32x8) -> f32x8 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32x8, b: f32x8) -> f32x8 {
        a * b
    }
    #[inline(always)]
    fn max(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_gt(b).bitselect(a, b)
    }
    #[inline(always)]
    fn gt(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_gt(b)
    }
    #[inline(always)]
    fn le(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_le(b)
    }
    #[inline(always)]
    fn select(self, mask: f32x8, a: f32x8, b: f32x8) -> f32x8 {
        mask.bitselect(a, b)
    }
    #[inline(always)]
    fn splat_argmax(self, index: u8) -> i32x8 {
        i32x8::splat(i32::from(index))
    }
    #[inline(always)]
    fn masked_max(self, mask: f32x8, index: u8, argmax: i32x8) -> i32x8 {
        (bytemuck::cast::<_, i32x8>(mask) & self.splat_argmax(index)).max(argmax)
    }
    #[inline(always)]
    fn argmax_eq(self, argmax: i32x8, index: u8) -> f32x8 {
        bytemuck::cast(argmax.simd_eq(self.splat_argmax(index)))
    }
    #[inline(always)]
    fn argmax_lt(self, argmax: i32x8, end: u8) -> f32x8 {
        bytemuck::cast(argmax.simd_lt(self.splat_argmax(end)))
    }
    #[inline(always)]
    fn masked_increment(self, mask: f32x8, counts: i32x8) -> i32x8 {
        counts - bytemuck::cast::<_, i32x8>(mask) // -1 where it is set
    }
    #[inline(always)]
    unsafe fn store_counts(self, to: *mut u32, argmax: i32x8) {
        // SAFETY: the caller's contract.
        unsafe { to.cast::<[i32; 8]>().write(argmax.to_array()) }
    }
    #[inline(always)]
    unsafe fn store_entries(self, to: *mut SparseEntry, argmax: i32x8, first: u32, step: u32, numbers: f32x8) {
        let at = (argmax * i32x8::splat(step as i32) + i32x8::splat(first as i32)).to_array();
        let numbers = numbers.to_array();
        let pairs: [SparseEntry; 8] =
            std::array::from_fn(|lane| SparseEntry { offset: at[lane] as u32, value: numbers[lane] });
        // SAFETY: the caller's contract.
        unsafe { to.cast::<[SparseEntry; 8]>().write(pairs) }
    }
    #[inline(always)]
    unsafe fn load_argmax(self, from: *const u8, lanes: usize) -> i32x8 {
        let mut all = [0u8; 8];
        // SAFETY: the caller's contract; at most eight bytes go into the array of eight.
        unsafe { from.copy_to_nonoverlapping(all.as_mut_ptr(), lanes.min(8)) };
        i32x8::new(all.map(i32::from))
    }
    #[inline(always)]
    unsafe fn store_argmax(self, to: *mut u8, lanes: usize, argmax: i32x8) {
        let all = argmax.to_array().map(|index| index as u8);
        // SAFETY: the caller's contract; at most eight bytes come out of the array of eight.
        unsafe { to.copy_from_nonoverlapping(all.as_ptr(), lanes.min(8)) }
    }
    #[inline(always)]
    unsafe fn lookup<const K: usize>(self, from: *const f32, at: i32x8) -> [f32x8; K] {
        let at = at.to_array().map(|at| at as usize % 4);
        // SAFETY: the caller's contract.
        std::array::from_fn(|t| f32x8::new(at.map(|at| unsafe { *from.add(t + at) })))
    }
    #[inline(always)]
    fn prefetch(self, _at: *const u8) {}
    #[inline(always)]
    fn prefetch_write(self, _at: *const u8) {}
    #[inline(always)]
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32 {
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
    }
}

impl Tiled for Wide {
    const TILE_VECTORS: usize = 2;

    // 6 x 2 accumulators + 2 weights + 1 broadcast = 15 of 16 registers.
    #[inline(always)]
    fn product_rows(_vectors: usize) -> usize {
        6
    }
    #[inline(always)]
    unsafe fn product_tile(self, vectors: usize, rows: usize, t: &ProductTile) {
        // SAFETY: the caller's contract.
        unsafe {
            match (vectors, rows) {
                (1, 1) => product_tile::<Self, 1, 1>(self, t),
                (1, 2) => product_tile::<Self, 2, 1>(self, t),
                (1, 4) => product_tile::<Self, 4, 1>(self, t),
                (1, _) => product_tile::<Self, 6, 1>(self, t),
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
    fn rank_rows(_vectors: usize, rows: usize) -> usize {
        if rows >= 5 { 5 } else { 1 }
    }
    #[inline(always)]
    unsafe fn rank_tile(self, vectors: usize, rows: usize, t: &RankTile) {
        // SAFETY: the caller's contract.
        unsafe {
            match (vectors, rows) {
                (1, 5) => rank_tile::<Self, 5, 1>(self, t),
                (1, _) => rank_tile::<Self, 1, 1>(self, t),
                (_, 5) => rank_tile::<Self, 5, 2>(self, t),
                _ => rank_tile::<Self, 1, 2>(self, t),
            }
        }
    }
    #[inline(always)]
    unsafe fn plane_tile<const STRIDE: usize>(self, vectors: usize, t: &PlaneTile) {
        // SAFETY: the caller's contract.
        unsafe {
            match vectors {
                1 => plane_tile::<Self, 6, 1, STRIDE>(self, t),
                _ => plane_tile::<Self, 6, 2, STRIDE>(self, t),
            }
        }
    }
}
