// linear.cu: the dense layer y[n, out] = x[n, depth] w[depth, out] + bias, depth = l * c, and its gradients.
//
// Large layers are tiled matrix products, one scheme for the three passes (`product`): a block of 256 threads makes 64 x 64 results,
// a thread 4 x 4 of them, from slices of 16 in depth that go through two stages of shared memory (17 KB) while the next slice is on
// its way in registers. Products and sums are f32 multiply-adds; the 16 sums are emptied into others every 128 of depth, so that no
// chain is longer. Where there are fewer than 256 tiles the depth is cut into pieces (grid y), whose sums `linear_sum` adds in order.
// 91 to 104 registers on every architecture, so two blocks an SM; two shared loads of 16 bytes for 16 multiply-adds of a thread, about
// half of the peak rate: dense layers are a few percent of a step.
//
// Small layers (`*_small`: up to 64 outputs and 32,768 weights, the heads of convolutional networks) are bound by latency: one launch
// a pass, the weights from the L2 cache.
//
// Launches, which src/ops/linear.rs builds, are told above each kernel. The bias's gradient is one more row of the weights',
// whose input is 1: both stand in the parameters one behind the other.
#include "common.cuh"

#define THREADS 256
#define TILE 64
#define SLICE 16
#define STRIDE (TILE / 4 + 1)  // in vectors of four: a stride of 68 numbers
#define FLUSH (128 / SLICE)

// Four neighbours from `at` on, zeros from `end` on.
__device__ __forceinline__ float4 four(const float* row, int at, int end, bool vectors) {
  if (vectors && at + 4 <= end) return *reinterpret_cast<const float4*>(row + at);
  float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (at < end) v.x = row[at];
  if (at + 1 < end) v.y = row[at + 1];
  if (at + 2 < end) v.z = row[at + 2];
  if (at + 3 < end) v.w = row[at + 3];
  return v;
}

// A factor of the product, seen as [outer][k]: outer rows of the first, columns of the second.
struct Factor {
  const float* numbers;
  int outer;    // how many there are
  int stride;   // numbers between neighbouring rows in memory
  bool vectors; // whether rows begin on 16 bytes
  int ones;     // this outer index reads 1 everywhere; -1 if there is none
};

__device__ __forceinline__ Factor factor_of(const float* numbers, int outer, int stride, int ones) {
  Factor f = {numbers, outer, stride, on_16(numbers) && stride % 4 == 0, ones};
  return f;
}

// A thread's four numbers of a slice of the tile that begins at `first`. ALONG_K: a row in memory runs along k, and so do the four.
template <bool ALONG_K>
__device__ __forceinline__ float4 fetch(const Factor& f, int first, int k, int end) {
  int t = threadIdx.x;
  if (ALONG_K) {
    int outer = first + t / 4;
    if (outer >= f.outer) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return four(f.numbers + (size_t)outer * f.stride, k + t % 4 * 4, end, f.vectors);
  }
  int row = k + t / 16, outer = first + t % 16 * 4;
  if (row >= end) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  float4 v = four(f.numbers + (size_t)row * f.stride, outer, f.ones >= 0 ? f.ones : f.outer, f.vectors);
  if (f.ones >= 0) {
    if (f.ones == outer) v.x = 1.0f;
    if (f.ones == outer + 1) v.y = 1.0f;
    if (f.ones == outer + 2) v.z = 1.0f;
    if (f.ones == outer + 3) v.w = 1.0f;
  }
  return v;
}

// Puts them where `product` reads them: [k][outer].
template <bool ALONG_K>
__device__ __forceinline__ void put(float4 (&slice)[SLICE][STRIDE], float4 v) {
  int t = threadIdx.x;
  if (ALONG_K) {
    int k = t % 4 * 4, outer = t / 4;
    float* to = reinterpret_cast<float*>(slice[k]) + outer;
    to[0] = v.x;
    to[4 * STRIDE] = v.y;
    to[8 * STRIDE] = v.z;
    to[12 * STRIDE] = v.w;
  } else {
    slice[t / 16][t % 16] = v;
  }
}

// Two slices of either factor in shared memory. They are declared by the entries: what a template declares escapes the software
// device's poison and race checks.
struct Stages {
  float4 a[2][SLICE][STRIDE];
  float4 b[2][SLICE][STRIDE];
};

// c[piece][m][j] = sum of a[m][k] b[k][j] over the k of the piece, + bias[j]; blocks = tiles of m * tiles of j (these faster), pieces.
template <bool A_ALONG_K, bool B_ALONG_K>
__device__ __forceinline__ void product(const Factor& a, const Factor& b, int depth, int piece, const float* bias_or_null,
                                        float* __restrict__ c, Stages& stages) {
  int wide = (b.outer + TILE - 1) / TILE;
  int first_m = ((int)blockIdx.x / wide) * TILE, first_j = ((int)blockIdx.x % wide) * TILE;
  int from = (int)blockIdx.y * piece;
  int end = min(depth, from + piece);
  int slices = (end - from + SLICE - 1) / SLICE;
  int m = (int)threadIdx.x / 16 * 4, j = (int)threadIdx.x % 16 * 4;
  float sums[4][4], totals[4][4];
#pragma unroll
  for (int r = 0; r < 4; r++) {
#pragma unroll
    for (int s = 0; s < 4; s++) sums[r][s] = totals[r][s] = 0.0f;
  }
  float4 next_a = fetch<A_ALONG_K>(a, first_m, from, end), next_b = fetch<B_ALONG_K>(b, first_j, from, end);
  for (int slice = 0; slice < slices; slice++) {
    put<A_ALONG_K>(stages.a[slice % 2], next_a);
    put<B_ALONG_K>(stages.b[slice % 2], next_b);
    // One barrier per slice is enough: a thread that overwrites a stage has passed the barrier after its readers.
    __syncthreads();
    if (slice + 1 < slices) {
      next_a = fetch<A_ALONG_K>(a, first_m, from + (slice + 1) * SLICE, end);
      next_b = fetch<B_ALONG_K>(b, first_j, from + (slice + 1) * SLICE, end);
    }
#pragma unroll
    for (int k = 0; k < SLICE; k++) {
      float4 va = stages.a[slice % 2][k][m / 4], vb = stages.b[slice % 2][k][j / 4];
      float left[4] = {va.x, va.y, va.z, va.w}, right[4] = {vb.x, vb.y, vb.z, vb.w};
#pragma unroll
      for (int r = 0; r < 4; r++) {
#pragma unroll
        for (int s = 0; s < 4; s++) sums[r][s] = fmaf(left[r], right[s], sums[r][s]);
      }
    }
    if (slice % FLUSH == FLUSH - 1 || slice + 1 == slices) {
#pragma unroll
      for (int r = 0; r < 4; r++) {
#pragma unroll
        for (int s = 0; s < 4; s++) {
          totals[r][s] += sums[r][s];
          sums[r][s] = 0.0f;
        }
      }
    }
  }
  m += first_m;
  j += first_j;
  float bias[4];
#pragma unroll
  for (int s = 0; s < 4; s++) bias[s] = bias_or_null != nullptr && j + s < b.outer ? bias_or_null[j + s] : 0.0f;
  bool vectors = on_16(c) && b.outer % 4 == 0 && j + 4 <= b.outer;
#pragma unroll
  for (int r = 0; r < 4; r++) {
    if (m + r >= a.outer) continue;
    float* to = c + ((size_t)blockIdx.y * a.outer + m + r) * b.outer + j;
    if (vectors) {
      *reinterpret_cast<float4*>(to) = make_float4(totals[r][0] + bias[0], totals[r][1] + bias[1], totals[r][2] + bias[2],
                                                   totals[r][3] + bias[3]);
      continue;
    }
#pragma unroll
    for (int s = 0; s < 4; s++) {
      if (j + s < b.outer) to[s] = totals[r][s] + bias[s];
    }
  }
}

// Blocks = ceil(n / 64) * ceil(out / 64), ceil(depth / piece). With more than one piece `y` is [pieces][n][out], the bias null.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    linear_forward(const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ bias_or_null,
                   float* __restrict__ y, int n, int depth, int out, int piece) {
  __shared__ Stages stages;
  product<true, false>(factor_of(x, n, depth, -1), factor_of(w, out, out, -1), depth, piece, bias_or_null, y,
                       stages);
}

// dx = dy w^T. Blocks = ceil(n / 64) * ceil(depth / 64), ceil(out / piece); `dx` likewise [pieces][n][depth].
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    linear_backward_data(const float* __restrict__ dy, const float* __restrict__ w, float* __restrict__ dx, int n, int depth,
                         int out, int piece) {
  __shared__ Stages stages;
  product<true, true>(factor_of(dy, n, out, -1), factor_of(w, depth, out, -1), out, piece, nullptr, dx,
                      stages);
}

// dw = x^T dy, and with `bias` = 1 its row `depth`, the sums of dy. Blocks = ceil((depth + bias) / 64) * ceil(out / 64),
// ceil(n / piece); `dw` likewise [pieces][depth + bias][out].
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    linear_backward_weight(const float* __restrict__ x, const float* __restrict__ dy, float* __restrict__ dw, int n, int depth,
                           int out, int bias, int piece) {
  __shared__ Stages stages;
  product<false, false>(factor_of(x, depth + bias, depth, bias ? depth : -1), factor_of(dy, out, out, -1), n, piece, nullptr,
                        dw, stages);
}

// to[i] = bias[i % out] + the sum of partials[piece][i] over the pieces, in order. 256 threads, a number a thread.
extern "C" __global__ void __launch_bounds__(THREADS)
    linear_sum(const float* __restrict__ partials, const float* __restrict__ bias_or_null, float* __restrict__ to, int count,
               int out, int pieces) {
  int i = (int)(blockIdx.x * THREADS + threadIdx.x);
  if (i >= count) return;
  float total = 0.0f;
  for (int chunk = 0; chunk < pieces; chunk += 8) {
    float numbers[8];
#pragma unroll
    for (int p = 0; p < 8; p++) numbers[p] = chunk + p < pieces ? partials[(size_t)(chunk + p) * count + i] : 0.0f;
    float sum = 0.0f;
#pragma unroll
    for (int p = 0; p < 8; p++) sum += numbers[p];
    total += sum;
  }
  to[i] = total + (bias_or_null != nullptr ? bias_or_null[i % out] : 0.0f);
}

// ---- Small layers -------------------------------------------------------------------------------------------------------------

// A block of 256 a sample. The 256 / out groups of a thread an output walk through the weights side by side, so that the block reads
// them in order; 16 products to a sum.
extern "C" __global__ void __launch_bounds__(THREADS)
    linear_forward_small(const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ bias_or_null,
                         float* __restrict__ y, int depth, int out) {
  __shared__ float tile[THREADS];
  int t = threadIdx.x;
  int groups = THREADS / out, group = t / out, j = t % out;
  const float* input = x + (size_t)blockIdx.x * depth;
  float total = 0.0f;
  if (group < groups) {
    for (int chunk = group; chunk < depth; chunk += 16 * groups) {
      float sum = 0.0f;
#pragma unroll
      for (int i = 0; i < 16; i++) {
        int row = chunk + i * groups;
        if (row < depth) sum = fmaf(input[row], w[(size_t)row * out + j], sum);
      }
      total += sum;
    }
  }
  tile[t] = total;
  __syncthreads();
  while (groups > 1) {
    int half = (groups + 1) / 2;
    if (group + half < groups) tile[t] += tile[t + half * out];
    groups = half;
    __syncthreads();
  }
  if (t < out) y[(size_t)blockIdx.x * out + t] = tile[t] + (bias_or_null != nullptr ? bias_or_null[t] : 0.0f);
}

// Both gradients. 256 threads, a number a thread: first the ceil((depth + bias) * out / 256) blocks of the weights' and the bias's,
// then the ceil(n * depth / 256) blocks of the input's. Either may be null.
extern "C" __global__ void __launch_bounds__(THREADS)
    linear_backward_small(const float* __restrict__ x, const float* __restrict__ dy, const float* __restrict__ w,
                          float* __restrict__ dx, float* __restrict__ dw, int n, int depth, int out, int bias) {
  int weights = (depth + bias) * out;
  int blocks = (weights + THREADS - 1) / THREADS;
  if ((int)blockIdx.x < blocks) {
    int at = (int)blockIdx.x * THREADS + (int)threadIdx.x;
    if (dw == nullptr || at >= weights) return;
    int i = at / out, j = at % out;
    float total = 0.0f;
    for (int chunk = 0; chunk < n; chunk += 16) {
      float sum = 0.0f;
#pragma unroll
      for (int s = 0; s < 16; s++) {
        int sample = chunk + s;
        if (sample < n) {
          float input = i < depth ? x[(size_t)sample * depth + i] : 1.0f;
          sum = fmaf(input, dy[(size_t)sample * out + j], sum);
        }
      }
      total += sum;
    }
    dw[at] = total;
    return;
  }
  unsigned at = (blockIdx.x - (unsigned)blocks) * THREADS + threadIdx.x;
  if (dx == nullptr || at >= (unsigned)n * (unsigned)depth) return;
  const float* g = dy + (size_t)(at / (unsigned)depth) * out;
  const float* row = w + (size_t)(at % (unsigned)depth) * out;
  float total = 0.0f;
  for (int chunk = 0; chunk < out; chunk += 16) {
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < 16; j++) {
      if (chunk + j < out) sum = fmaf(g[chunk + j], row[chunk + j], sum);
    }
    total += sum;
  }
  dx[at] = total;
}
