//! The instruction sets, and the only functions that are compiled for one.
#![allow(unsafe_code)] // reason: entering a function compiled for an instruction set that detection has proved present

use super::portable::{Scalar, Wide};
use super::tile::Tiled;
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};
use std::fmt;

/// A number and the offset of the slice that it is multiplied with.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct SparseEntry {
    /// The offset, in numbers.
    pub offset: u32,
    /// The number.
    pub value: f32,
}

/// Vectors of one instruction set. Every method is inlined into the body that [`Isa::run`] compiles for it.
pub trait Simd: Tiled {
    /// A vector of [`Simd::LANES`] numbers.
    type V: Copy;
    /// The outcome of a comparison, lane by lane.
    type Mask: Copy;
    /// Indices in a pooling window, one per lane: whole numbers from 0 to 127.
    type Argmax: Copy;
    /// Numbers in a vector.
    const LANES: usize;

    /// Zeros.
    fn zero(self) -> Self::V;
    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::V;
    /// The numbers from `from` on.
    ///
    /// # Safety
    /// [`Simd::LANES`] numbers from `from` on are readable.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// Writes a vector.
    ///
    /// # Safety
    /// [`Simd::LANES`] numbers from `to` on are writable.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// The first `lanes` numbers, zeros after.
    ///
    /// # Safety
    /// `lanes` numbers from `from` on are readable.
    unsafe fn load_first(self, from: *const f32, lanes: usize) -> Self::V;
    /// Writes the first `lanes` numbers.
    ///
    /// # Safety
    /// `lanes` numbers from `to` on are writable.
    unsafe fn store_first(self, to: *mut f32, lanes: usize, v: Self::V);
    /// Writes a vector to the start of `to`, or as many of its lanes as `to` is long.
    #[inline(always)]
    fn store_to(self, to: &mut [f32], v: Self::V) {
        // SAFETY: no more lanes are written than `to` is long.
        unsafe { self.store_first(to.as_mut_ptr(), to.len().min(Self::LANES), v) }
    }
    /// `a * b + c`, rounded once where the instruction set has it.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger number; `b` where either is not a number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a > b`.
    fn gt(self, a: Self::V, b: Self::V) -> Self::Mask;
    /// `a <= b`.
    fn le(self, a: Self::V, b: Self::V) -> Self::Mask;
    /// `a` where the mask is set, else `b`.
    fn select(self, mask: Self::Mask, a: Self::V, b: Self::V) -> Self::V;
    /// `index` in every lane.
    fn splat_argmax(self, index: u8) -> Self::Argmax;
    /// The larger of `index` and the lane's index where the mask is set, else the lane's index.
    fn masked_max(self, mask: Self::Mask, index: u8, argmax: Self::Argmax) -> Self::Argmax;
    /// Whether the lane's index is `index`.
    fn argmax_eq(self, argmax: Self::Argmax, index: u8) -> Self::Mask;
    /// Whether the lane's index is below `end`.
    fn argmax_lt(self, argmax: Self::Argmax, end: u8) -> Self::Mask;
    /// The lane's count plus one where the mask is set; counts are at most 127.
    fn masked_increment(self, mask: Self::Mask, counts: Self::Argmax) -> Self::Argmax;
    /// The first `lanes` bytes as indices, zeros after.
    ///
    /// # Safety
    /// `lanes` bytes from `from` on are readable.
    unsafe fn load_argmax(self, from: *const u8, lanes: usize) -> Self::Argmax;
    /// Writes the first `lanes` indices as bytes.
    ///
    /// # Safety
    /// `lanes` bytes from `to` on are writable.
    unsafe fn store_argmax(self, to: *mut u8, lanes: usize, argmax: Self::Argmax);
    /// Writes indices or counts as 32-bit integers.
    ///
    /// # Safety
    /// [`Simd::LANES`] numbers from `to` on are writable.
    unsafe fn store_counts(self, to: *mut u32, argmax: Self::Argmax);
    /// Writes `first + index * step` and a number, lane by lane, for sums below 2^32.
    ///
    /// # Safety
    /// [`Simd::LANES`] pairs from `to` on are writable.
    unsafe fn store_entries(self, to: *mut SparseEntry, argmax: Self::Argmax, first: u32, step: u32, numbers: Self::V);
    /// Writes a vector, past the caches where that is possible: for memory that is read much later. [`Simd::fence`] must follow.
    ///
    /// # Safety
    /// As [`Simd::store`].
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: Self::V) {
        // SAFETY: the caller's contract.
        unsafe { self.store(to, v) }
    }
    /// Makes the vectors of [`Simd::stream`] visible to other threads.
    #[inline(always)]
    fn fence(self) {}
    /// For each lane, the number at offset `at % 4` from `from`, and the `K - 1` numbers after it.
    ///
    /// # Safety
    /// 16 numbers from `from` on are readable; `K` is at most 5.
    unsafe fn lookup<const K: usize>(self, from: *const f32, at: Self::Argmax) -> [Self::V; K];
    /// Prefetches the cache line of `at`, which may be any address.
    fn prefetch(self, at: *const u8);
    /// Prefetches the cache line of `at` in order to write it; `at` may be any address.
    fn prefetch_write(self, at: *const u8);

    /// `a * b + c` of scalars, rounded as by [`Simd::fma`].
    fn fma_scalar(self, a: f32, b: f32, c: f32) -> f32;
}

/// A computation written once for every instruction set.
pub trait Kernel {
    /// Runs the kernel. An implementation is `#[inline(always)]`, so that it is compiled for the instruction set of `s`.
    fn run<S: Simd>(self, s: S);
}

/// An instruction set that this machine has.
#[derive(Clone, Copy)]
pub enum Isa {
    /// One number at a time: the reference for the arithmetic of the vector sets.
    Scalar,
    /// The crate `wide`: the vectors of the build's target, on any processor.
    Wide,
    /// AVX2 with FMA, 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512F, 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Isa {
    /// The fastest instruction set of this machine.
    pub fn best() -> Isa {
        Isa::all().pop().expect("the portable sets are always there")
    }

    /// All instruction sets of this machine, the fastest last.
    pub fn all() -> Vec<Isa> {
        #[allow(unused_mut, reason = "only x86-64 has more")]
        let mut all = vec![Isa::Scalar, Isa::Wide];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(Isa::Avx2));
            all.extend(Avx512::detect().map(Isa::Avx512));
        }
        all
    }

    /// Its name: `scalar`, `wide`, `avx2`, `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Wide => "wide",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => "avx512",
        }
    }

    /// The instruction set with this name, if this machine has it.
    pub fn by_name(name: &str) -> Option<Isa> {
        Isa::all().into_iter().find(|isa| isa.name() == name)
    }

    /// Runs a kernel, compiled for this instruction set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) {
        match self {
            Isa::Scalar => kernel.run(Scalar),
            Isa::Wide => kernel.run(Wide),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a token of AVX2 is made only where detection found AVX2 and FMA.
            Isa::Avx2(token) => unsafe { run_avx2(kernel, token) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a token of AVX-512 is made only where detection found the four subsets named here, AVX2 and FMA.
            Isa::Avx512(token) => unsafe { run_avx512(kernel, token) },
        }
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K, token: Avx2) {
    kernel.run(token);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")]
fn run_avx512<K: Kernel>(kernel: K, token: Avx512) {
    kernel.run(token);
}
