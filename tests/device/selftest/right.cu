// right.cu: kernels that do nothing wrong. The device must run them, in every order, to the same bits, and find no fault.
#include "common.cuh"

// Every warp operation once. out: 8 words a thread.
extern "C" __global__ void warp_words(unsigned* out) {
  int lane = threadIdx.x & 31;
  unsigned* mine = out + 8 * threadIdx.x;
  mine[0] = __shfl_sync(0xffffffffu, lane * 10, 5);
  mine[1] = __shfl_down_sync(0xffffffffu, lane * 10, 3);
  mine[2] = __shfl_up_sync(0xffffffffu, lane * 10, 3);
  mine[3] = __shfl_xor_sync(0xffffffffu, lane * 10, 16);
  mine[4] = __shfl_down_sync(0xffffffffu, lane * 10, 3, 8);
  mine[5] = __ballot_sync(0xffffffffu, lane % 3 == 0);
  mine[6] = lane < 16 ? __ballot_sync(0x0000ffffu, 1) : __popc(__ballot_sync(0xffff0000u, lane == 20));
  mine[7] = __umulhi(0x80000000u, lane) + __ffs(lane) + __clz(lane);
}

// One product of the matrix units. a: 16 x 8, b: 8 x 8, c: 16 x 8, all row by row.
extern "C" __global__ void one_tf32(const float* a, const float* b, float* c) {
  int g = threadIdx.x >> 2;
  int t = threadIdx.x & 3;
  uint32_t fa[4] = {to_tf32(a[g * 8 + t]), to_tf32(a[(g + 8) * 8 + t]), to_tf32(a[g * 8 + t + 4]), to_tf32(a[(g + 8) * 8 + t + 4])};
  uint32_t fb[2] = {to_tf32(b[t * 8 + g]), to_tf32(b[(t + 4) * 8 + g])};
  float d[4] = {c[g * 8 + 2 * t], c[g * 8 + 2 * t + 1], c[(g + 8) * 8 + 2 * t], c[(g + 8) * 8 + 2 * t + 1]};
  mma_tf32(d, fa, fb);
  c[g * 8 + 2 * t] = d[0];
  c[g * 8 + 2 * t + 1] = d[1];
  c[(g + 8) * 8 + 2 * t] = d[2];
  c[(g + 8) * 8 + 2 * t + 1] = d[3];
}

// The same in bf16. a: 16 x 16, b: 16 x 8.
extern "C" __global__ void one_bf16(const float* a, const float* b, float* c) {
  int g = threadIdx.x >> 2;
  int k = 2 * (threadIdx.x & 3);
  uint32_t fa[4] = {pack_bf16x2(a[g * 16 + k], a[g * 16 + k + 1]), pack_bf16x2(a[(g + 8) * 16 + k], a[(g + 8) * 16 + k + 1]),
                    pack_bf16x2(a[g * 16 + k + 8], a[g * 16 + k + 9]), pack_bf16x2(a[(g + 8) * 16 + k + 8], a[(g + 8) * 16 + k + 9])};
  uint32_t fb[2] = {pack_bf16x2(b[k * 8 + g], b[(k + 1) * 8 + g]), pack_bf16x2(b[(k + 8) * 8 + g], b[(k + 9) * 8 + g])};
  float d[4] = {c[g * 8 + k], c[g * 8 + k + 1], c[(g + 8) * 8 + k], c[(g + 8) * 8 + k + 1]};
  mma_bf16(d, fa, fb);
  c[g * 8 + k] = d[0];
  c[g * 8 + k + 1] = d[1];
  c[(g + 8) * 8 + k] = d[2];
  c[(g + 8) * 8 + k + 1] = d[3];
}

// 1 + many times 1.5 * 2^-24 in the unit's accumulator: cutting leaves 1.
extern "C" __global__ void many_small(float* out) {
  uint32_t a[4] = {0, 0, 0, 0};
  uint32_t b[2] = {0, 0};
  if ((threadIdx.x & 3) == 0) {
    a[0] = a[1] = __float_as_uint(1.5f / 16777216.0f);
    b[0] = __float_as_uint(1.0f);
  }
  float d[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  for (int i = 0; i < 16; i++) mma_tf32(d, a, b);
  out[threadIdx.x] = d[0];
}

// Two stages of cp.async, a tile each, as convolutions do it: out = sum over tiles of (x of the thread's neighbour).
// 64 threads. `weak` nonzero waits for one group too few; `open` nonzero leaves out the barrier after the readers.
extern "C" __global__ void two_stages(const float* x, float* out, int tiles, int weak, int open) {
  DYN_SHARED(float, tile);
  __shared__ float last;
  int i = threadIdx.x;
  float sum = 0.0f;
  cp_async4(tile + i, x + i);
  cp_async_commit();
  for (int t = 0; t < tiles; t++) {
    if (t + 1 < tiles) cp_async4(tile + (t + 1) % 2 * 64 + i, x + (t + 1) * 64 + i);
    cp_async_commit();
    if (weak) {
      cp_async_wait<2>();
    } else {
      cp_async_wait<1>();
    }
    __syncthreads();
    sum += tile[t % 2 * 64 + (i + 33) % 64];
    if (!open) __syncthreads();
  }
  cp_async_wait<0>();
  if (i == 7) last = sum;
  __syncthreads();
  out[blockIdx.x * 64 + i] = sum + 0.0f * last;
}

// Bytes beside each other, written by different threads: no race. Then read as words, after a barrier.
extern "C" __global__ void neighbour_bytes(unsigned char* out, unsigned* sums) {
  __shared__ unsigned char bytes[64];
  bytes[threadIdx.x] = (unsigned char)threadIdx.x;
  out[blockIdx.x * 64 + threadIdx.x] = (unsigned char)threadIdx.x;
  __syncthreads();
  if (threadIdx.x < 16) sums[blockIdx.x * 16 + threadIdx.x] = *reinterpret_cast<unsigned*>(bytes + 4 * threadIdx.x);
}

// Neighbours in a warp through shared memory, ordered by __syncwarp.
extern "C" __global__ void warp_memory(float* out) {
  __shared__ float values[32];
  values[threadIdx.x] = (float)threadIdx.x;
  __syncwarp();
  float other = values[31 - threadIdx.x];
  __syncwarp();
  values[threadIdx.x] = other;
  __syncwarp();
  out[threadIdx.x] = values[threadIdx.x ^ 1];
}
