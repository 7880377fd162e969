// conv_pack.cu: weights as the convolutions want them, and the sum of their gradients' pieces.
#include "jobs.cuh"

// Weights [k][c_in][c_out] as [part][taps][depth][outputs]: zeros beyond the last tap, channel and output. Forward sums over c_in;
// `backward` flips the taps and sums over c_out, for the gradient of the input. `products` as in conv_products.cuh: 0 f32 as it is,
// 1 two parts in TF32, 2 rounded to TF32, 3 pairs of neighbouring channels in bf16 (then depth counts pairs).
__device__ __forceinline__ void pack(const float* w, float* packed, int k, int c_in, int c_out, int taps, int depth, int outputs,
                                     int backward, int products, int block) {
  size_t i = (size_t)block * 256 + threadIdx.x, count = (size_t)taps * depth * outputs;
  if (i >= count) return;
  int output = (int)(i % outputs), channel = (int)(i / outputs % depth), tap = (int)(i / outputs / depth);
  auto weight = [&](int d) {
    int from = backward ? output : d, to = backward ? d : output;
    if (tap >= k || from >= c_in || to >= c_out) return 0.f;
    return w[((size_t)(backward ? k - 1 - tap : tap) * c_in + from) * c_out + to];
  };
  if (products == 3) {
    packed[i] = __uint_as_float(pack_bf16x2(weight(2 * channel), weight(2 * channel + 1)));
    return;
  }
  float v = weight(channel);
  if (products == 0) {
    packed[i] = v;
    return;
  }
  float high = __uint_as_float(to_tf32(v));
  packed[i] = high;
  if (products == 1) packed[count + i] = __uint_as_float(to_tf32(v - high));
}

extern "C" __global__ void __launch_bounds__(256)
    conv_pack(const float* __restrict__ w, float* __restrict__ packed, int k, int c_in, int c_out, int taps, int depth, int outputs,
              int backward, int products) {
  pack(w, packed, k, c_in, c_out, taps, depth, outputs, backward, products, blockIdx.x);
}

extern "C" __global__ void __launch_bounds__(256) conv_pack_many(const unsigned long long* __restrict__ jobs, int count) {
  const Word* job = job_of_block<11>(jobs, count);
  pack(pointer_of<const float>(job[1]), pointer_of<float>(job[2]), int_of(job[3]), int_of(job[4]), int_of(job[5]), int_of(job[6]),
       int_of(job[7]), int_of(job[8]), int_of(job[9]), int_of(job[10]), (int)(blockIdx.x - job[0]));
}

// dparams[i] = sum over pieces of partials[piece][i], for `numbers` of them; `zeros` numbers behind are cleared. A block makes 32
// numbers: each of its warps sums every so manyth piece, then their sums are added in order. 8 warps, or 32 for many pieces.
__device__ __forceinline__ void reduce(const float* partials, float* dparams, int pieces, int numbers, int zeros, int block) {
  __shared__ float sums[32][32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32, i = block * 32 + lane;
  float sum = 0.f;
  if (i < numbers) {
#pragma unroll 4
    for (int piece = warp; piece < pieces; piece += warps) sum += partials[(size_t)piece * numbers + i];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || i >= numbers + zeros) return;
  for (int w = 1; w < warps; w++) sum += sums[w][lane];
  dparams[i] = i < numbers ? sum : 0.f;
}

extern "C" __global__ void __launch_bounds__(1024)
    conv_reduce(const float* __restrict__ partials, float* __restrict__ dparams, int pieces, int numbers, int zeros) {
  reduce(partials, dparams, pieces, numbers, zeros, blockIdx.x);
}

extern "C" __global__ void __launch_bounds__(256) conv_reduce_many(const unsigned long long* __restrict__ jobs, int count) {
  const Word* job = job_of_block<6>(jobs, count);
  reduce(pointer_of<const float>(job[1]), pointer_of<float>(job[2]), int_of(job[3]), int_of(job[4]), int_of(job[5]),
         (int)(blockIdx.x - job[0]));
}
