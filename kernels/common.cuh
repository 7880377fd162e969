// common.cuh: the only file that depends on whether a kernel is compiled for a GPU or for the software device of the tests.
//
// A kernel includes this file and nothing else. Everything that is an instruction rather than C++ has one wrapper here, with two
// bodies: inline PTX, and a call into the runner (`SIMT_CPU`, defined by tests/device/runner/simt.h).
//
// Rules for kernels, so that both sides can run them:
// - entries are `extern "C" __global__ void name(...)` with flat parameters: pointers, int, float, unsigned long long; no structs;
// - tiles stand in dynamic shared memory, through DYN_SHARED; small ones may be `__shared__`;
// - `#if __CUDA_ARCH__` appears in this file only.
#pragma once

#ifdef __CUDACC_RTC__
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <cstdint>
#endif

#ifdef SIMT_CPU

// The block's dynamic shared memory, as a pointer of the given element type; 16-byte aligned.
#define DYN_SHARED(type, name) type* name = reinterpret_cast<type*>(simt::dynamic_shared())

#else

#define DYN_SHARED(type, name)                                        \
  extern __shared__ __align__(16) unsigned char stapes_dyn_shared[]; \
  type* name = reinterpret_cast<type*>(stapes_dyn_shared)

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define STAPES_SM80 1
#endif

#endif

// ---- Matrix units -------------------------------------------------------------------------------------------------------------
// lane = 4g + t. D += A B, one warp.
// m16n8k8, tf32:   a0..a3 = A[g][t], A[g+8][t], A[g][t+4], A[g+8][t+4];  b0, b1 = B[t][g], B[t+4][g].
// m16n8k16, bf16:  the same with a pair of neighbouring k in each word: k = 2t, 2t+1 (a0, a1, b0), 2t+8, 2t+9 (a2, a3, b1); the
//                  lower half is the smaller k.
// both:            c0..c3 = C[g][2t], C[g][2t+1], C[g+8][2t], C[g+8][2t+1].
// The units cut sums toward zero: long sums must be emptied into ordinary registers every 40 of K or so.
#ifdef SIMT_CPU

__device__ __forceinline__ void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                         simt::Here here = SIMT_HERE) {
  simt::mma_tf32(d, a, b, here);
}

__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                         simt::Here here = SIMT_HERE) {
  simt::mma_bf16(d, a, b, here);
}

#elif defined(STAPES_SM80)

__device__ __forceinline__ void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

// ---- Number formats -----------------------------------------------------------------------------------------------------------

// x in TF32 (19 bits in the top of a word): to nearest, ties away from zero, like cvt.rna.tf32. A NaN becomes the canonical one.
__device__ __forceinline__ uint32_t to_tf32(float x) {
#if !defined(SIMT_CPU) && defined(STAPES_SM80)
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
#else
  uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffffffu;
  return (bits + 0x1000u) & 0xffffe000u;
#endif
}

// The TF32 part of x by cutting, an operand of mma_tf32. With tf32_low it is an exact split of x in two instructions.
__device__ __forceinline__ uint32_t tf32_high(float x) { return __float_as_uint(x) & 0xffffe000u; }

// What tf32_high left: a float of at most 13 significant bits, of which the unit reads 11.
__device__ __forceinline__ uint32_t tf32_low(float x) {
  return __float_as_uint(x - __uint_as_float(__float_as_uint(x) & 0xffffe000u));
}

// x in bf16: to nearest, ties to even. A NaN becomes the canonical one.
__device__ __forceinline__ unsigned short to_bf16(float x) {
#if !defined(SIMT_CPU) && defined(STAPES_SM80)
  unsigned short half;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
#else
  uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#endif
}

__device__ __forceinline__ float from_bf16(unsigned short half) { return __uint_as_float((uint32_t)half << 16); }

// Two neighbours in one word, the first in the lower half, as memory has them.
__device__ __forceinline__ uint32_t pack_bf16x2(float first, float second) {
#if !defined(SIMT_CPU) && defined(STAPES_SM80)
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return (uint32_t)to_bf16(first) | (uint32_t)to_bf16(second) << 16;
#endif
}

// The first and the second of a pair.
__device__ __forceinline__ float bf16x2_first(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16x2_second(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// ---- Copies past the registers ------------------------------------------------------------------------------------------------
// A thread sees its own copies after cp_async_wait, other threads after a barrier behind it. Both addresses are multiples of the
// size. Every commit is one group, empty ones too; cp_async_wait<N> leaves at most the N latest groups in flight. A kernel must not
// end with a copy in flight. Before sm_80 these are ordinary loads and stores, done at once.
#ifdef SIMT_CPU

__device__ __forceinline__ void cp_async16(void* shared, const void* global, simt::Here here = SIMT_HERE) {
  simt::cp_async(shared, global, 16, here);
}

__device__ __forceinline__ void cp_async4(void* shared, const void* global, simt::Here here = SIMT_HERE) {
  simt::cp_async(shared, global, 4, here);
}
__device__ __forceinline__ void cp_async_commit() { simt::cp_async_commit(); }
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  simt::cp_async_wait(N);
}

#elif defined(STAPES_SM80)

__device__ __forceinline__ void cp_async16(void* shared, const void* global) {
  uint32_t address = (uint32_t)__cvta_generic_to_shared(shared);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
}

__device__ __forceinline__ void cp_async4(void* shared, const void* global) {
  uint32_t address = (uint32_t)__cvta_generic_to_shared(shared);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(global) : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int N>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#else

__device__ __forceinline__ void cp_async16(void* shared, const void* global) {
  *reinterpret_cast<uint4*>(shared) = *reinterpret_cast<const uint4*>(global);
}

__device__ __forceinline__ void cp_async4(void* shared, const void* global) {
  *reinterpret_cast<uint32_t*>(shared) = *reinterpret_cast<const uint32_t*>(global);
}

__device__ __forceinline__ void cp_async_commit() {}

template <int N>
__device__ __forceinline__ void cp_async_wait() {}

#endif

// Whether an address fits a load or store of four numbers.
__device__ __forceinline__ bool on_16(const void* p) { return ((size_t)p & 15) == 0; }

// WIDTH numbers that follow one another; four as one vector, if `vectors` says that the address fits.
template <int WIDTH>
__device__ __forceinline__ void load_wide(float (&to)[WIDTH], const float* p, bool vectors) {
  if (WIDTH == 4 && vectors) {
    float4 v = *reinterpret_cast<const float4*>(p);
    to[0] = v.x, to[1 % WIDTH] = v.y, to[2 % WIDTH] = v.z, to[3 % WIDTH] = v.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < WIDTH; i++) to[i] = p[i];
}

template <int WIDTH>
__device__ __forceinline__ void store_wide(float* p, const float (&from)[WIDTH], bool vectors) {
  if (WIDTH == 4 && vectors) {
    *reinterpret_cast<float4*>(p) = make_float4(from[0], from[1 % WIDTH], from[2 % WIDTH], from[3 % WIDTH]);
    return;
  }
#pragma unroll
  for (int i = 0; i < WIDTH; i++) p[i] = from[i];
}
