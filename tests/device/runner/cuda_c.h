// cuda_c.h: the words of CUDA C that kernels use, for the runner. Included by simt.h; not part of the runner itself.
#pragma once
#include <cmath>
#include <cstring>

// ---- Qualifiers ---------------------------------------------------------------------------------------------------------------
// `__global__` keeps a mark of its own, by which build.sh finds the entries in the preprocessed text.
#define __global__ __attribute__((noinline, used))
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __constant__ static
#define __align__(n) alignas(n)
#define __builtin_align__(n) alignas(n)
// All static shared memory is in one section, so that the scheduler finds and poisons it.
#define __shared__ static __attribute__((section("simt_shared")))
#define SIMT_HERE simt::Here::current()

// ---- Indices ------------------------------------------------------------------------------------------------------------------
#define threadIdx simt::context.thread
#define blockIdx simt::context.block
#define blockDim simt::context.block_size
#define gridDim simt::context.grid_size
#define warpSize 32
using dim3 = simt::Size3;
using uint3 = simt::Index3;

// ---- Vectors ------------------------------------------------------------------------------------------------------------------
#define SIMT_VECTOR2(name, type, bytes)                            \
  struct alignas(bytes) name##2 {                                  \
    type x, y;                                                     \
  };                                                               \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }
#define SIMT_VECTOR4(name, type, bytes)                                                      \
  struct alignas(bytes) name##4 {                                                            \
    type x, y, z, w;                                                                         \
  };                                                                                         \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
SIMT_VECTOR2(float, float, 8)
SIMT_VECTOR4(float, float, 16)
SIMT_VECTOR2(double, double, 16)
SIMT_VECTOR2(int, int, 8)
SIMT_VECTOR4(int, int, 16)
SIMT_VECTOR2(uint, unsigned, 8)
SIMT_VECTOR4(uint, unsigned, 16)
SIMT_VECTOR2(short, short, 4)
SIMT_VECTOR4(short, short, 8)
SIMT_VECTOR2(ushort, unsigned short, 4)
SIMT_VECTOR4(ushort, unsigned short, 8)
SIMT_VECTOR2(char, signed char, 2)
SIMT_VECTOR4(char, signed char, 4)
SIMT_VECTOR2(uchar, unsigned char, 2)
SIMT_VECTOR4(uchar, unsigned char, 4)
#undef SIMT_VECTOR2
#undef SIMT_VECTOR4

// ---- Barriers and warps -------------------------------------------------------------------------------------------------------
inline void __syncthreads(simt::Here here = SIMT_HERE) { simt::barrier(here); }
inline void __syncwarp(unsigned mask = ~0u, simt::Here here = SIMT_HERE) { simt::sync_warp(mask, here); }

namespace simt {

template <class Value>
Value shuffle_value(unsigned mask, Value value, unsigned source, Here here) {
  static_assert(sizeof(Value) == 4, "shuffles move 4-byte values");
  uint32_t bits;
  memcpy(&bits, &value, 4);
  bits = shuffle(mask, bits, source, here);
  memcpy(&value, &bits, 4);
  return value;
}

// The first lane after the group of `width` lanes that the caller belongs to.
inline unsigned group_end(int width) { return (lane() & ~(unsigned)(width - 1)) + (unsigned)width; }

}  // namespace simt

template <class Value>
Value __shfl_sync(unsigned mask, Value value, int source, int width = 32, simt::Here here = SIMT_HERE) {
  unsigned group = simt::group_end(width) - (unsigned)width;
  return simt::shuffle_value(mask, value, group + ((unsigned)source & (unsigned)(width - 1)), here);
}

template <class Value>
Value __shfl_down_sync(unsigned mask, Value value, unsigned delta, int width = 32, simt::Here here = SIMT_HERE) {
  unsigned source = simt::lane() + delta;
  return simt::shuffle_value(mask, value, source < simt::group_end(width) ? source : simt::lane(), here);
}

template <class Value>
Value __shfl_up_sync(unsigned mask, Value value, unsigned delta, int width = 32, simt::Here here = SIMT_HERE) {
  unsigned group = simt::group_end(width) - (unsigned)width;
  return simt::shuffle_value(mask, value, simt::lane() >= group + delta ? simt::lane() - delta : simt::lane(), here);
}

template <class Value>
Value __shfl_xor_sync(unsigned mask, Value value, int bits, int width = 32, simt::Here here = SIMT_HERE) {
  unsigned source = simt::lane() ^ (unsigned)bits;
  return simt::shuffle_value(mask, value, source < simt::group_end(width) ? source : simt::lane(), here);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, simt::Here here = SIMT_HERE) {
  return simt::ballot(mask, predicate != 0, here);
}
inline int __any_sync(unsigned mask, int predicate, simt::Here here = SIMT_HERE) {
  return simt::ballot(mask, predicate != 0, here) != 0;
}
inline int __all_sync(unsigned mask, int predicate, simt::Here here = SIMT_HERE) {
  return simt::ballot(mask, predicate == 0, here) == 0;
}

// ---- Bits ---------------------------------------------------------------------------------------------------------------------
namespace simt {
template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace simt

inline float __int_as_float(int bits) { return simt::bit_cast<float>(bits); }
inline int __float_as_int(float value) { return simt::bit_cast<int>(value); }
inline float __uint_as_float(unsigned bits) { return simt::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return simt::bit_cast<unsigned>(value); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }
inline int __mulhi(int a, int b) { return (int)(((long long)a * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz((unsigned)bits) : 32; }

// ---- Arithmetic ---------------------------------------------------------------------------------------------------------------
using std::isfinite;
using std::isinf;
using std::isnan;
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
inline unsigned long long min(unsigned long long a, unsigned long long b) { return a < b ? a : b; }
inline unsigned long long max(unsigned long long a, unsigned long long b) { return a > b ? a : b; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline int __float2int_rn(float x) { return (int)nearbyintf(x); }
inline int __float2int_rz(float x) { return (int)x; }
inline int __float2int_rd(float x) { return (int)floorf(x); }
inline float __int2float_rn(int x) { return (float)x; }
inline float __uint2float_rn(unsigned x) { return (float)x; }

// ---- Memory -------------------------------------------------------------------------------------------------------------------
template <class Value>
inline Value __ldg(const Value* address) {
  return *address;
}
