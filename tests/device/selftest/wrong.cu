// wrong.cu: one fault a kernel. The device must find each of them.
#include "common.cuh"

extern "C" __global__ void different_barriers(float* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 0.0f;
}

extern "C" __global__ void return_before_barrier(float* out) {
  if (threadIdx.x >= 60) return;
  __syncthreads();
  out[threadIdx.x] = 0.0f;
}

extern "C" __global__ void different_shuffles(float* out) {
  float value = (float)threadIdx.x;
  if (threadIdx.x & 1) {
    value = __shfl_xor_sync(0xffffffffu, value, 1);
  } else {
    value = __shfl_xor_sync(0xffffffffu, value, 2);
  }
  out[threadIdx.x] = value;
}

extern "C" __global__ void lane_at_barrier(float* out) {
  if (threadIdx.x == 3) __syncthreads();
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

extern "C" __global__ void outside_mask(float* out) { out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1.0f, 1); }

extern "C" __global__ void half_a_warp(float* out) {
  uint32_t a[4] = {0, 0, 0, 0};
  uint32_t b[2] = {0, 0};
  float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  mma_tf32(d, a, b);
  out[threadIdx.x] = d[0];
}

extern "C" __global__ void misaligned_copy(const float* x, float* out) {
  DYN_SHARED(float, tile);
  cp_async16(tile + 4 * threadIdx.x, x + threadIdx.x);
  cp_async_commit();
  cp_async_wait<0>();
  out[threadIdx.x] = tile[4 * threadIdx.x];
}

extern "C" __global__ void copy_never_waited(const float* x, float* out) {
  DYN_SHARED(float, tile);
  cp_async4(tile + threadIdx.x, x + threadIdx.x);
  cp_async_commit();
  out[threadIdx.x] = 0.0f;
}

extern "C" __global__ void uninitialised(float* out) {
  DYN_SHARED(float, tile);
  __shared__ float fixed[64];
  if (threadIdx.x > 1000) fixed[threadIdx.x & 63] = 0.0f;
  __syncthreads();
  out[threadIdx.x] = threadIdx.x & 1 ? tile[threadIdx.x] : fixed[threadIdx.x];
}

extern "C" __global__ void wild_pointer(float* out) { out[1ull << 40] = 1.0f; }

extern "C" __global__ void deep_stack(float* out, int depth) {
  volatile float big[30000];
  for (int i = 29999; i >= 0; i -= 1000) big[i] = (float)depth;
  out[threadIdx.x] = big[threadIdx.x];
}

extern "C" __global__ void past_dynamic(float* out) {
  DYN_SHARED(float, tile);
  tile[64 + threadIdx.x] = 1.0f;
  out[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void past_allocation(float* out, int n) { out[n + threadIdx.x] = 1.0f; }

extern "C" __global__ void read_before_allocation(const float* x, float* out) { out[threadIdx.x] = x[(int)threadIdx.x - 1]; }

extern "C" __global__ void no_barrier(float* out) {
  __shared__ float values[64];
  values[threadIdx.x] = 1.0f;
  out[threadIdx.x] = values[63 - threadIdx.x];
}

// A read, then a write by another thread.
extern "C" __global__ void no_barrier_behind_readers(float* out) {
  __shared__ float values[64];
  values[threadIdx.x] = 1.0f;
  __syncthreads();
  float other = values[63 - threadIdx.x];
  values[threadIdx.x] = other + 1.0f;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

extern "C" __global__ void blocks_write_one_cell(float* out) { out[threadIdx.x] = (float)blockIdx.x; }

extern "C" __global__ void block_reads_another(float* out) {
  float other = out[(blockIdx.x ^ 1) * 32 + threadIdx.x];
  out[blockIdx.x * 32 + threadIdx.x] = other;
}

extern "C" __global__ void same_byte(unsigned char* out) { out[threadIdx.x / 2] = (unsigned char)threadIdx.x; }

// A shuffle orders no memory.
extern "C" __global__ void shuffle_is_no_sync(float* out) {
  __shared__ float values[32];
  values[threadIdx.x] = 1.0f;
  float other = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
  out[threadIdx.x] = other + values[31 - threadIdx.x];
}

extern "C" __global__ void read_before_wait(const float* x, float* out) {
  DYN_SHARED(float, tile);
  cp_async4(tile + threadIdx.x, x + threadIdx.x);
  cp_async_commit();
  float early = tile[threadIdx.x];
  cp_async_wait<0>();
  out[threadIdx.x] = early;
}

extern "C" __global__ void misaligned_vector(const float* x, float* out) {
  *reinterpret_cast<float4*>(out) = *reinterpret_cast<const float4*>(x + 1);
}
