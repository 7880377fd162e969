// depthwise.cu: convolutions with one filter for each channel.
//
// Tensors are `[n, l, c]` in f32, channels last; weights `[k, c]`. `pad` rows of zeros are before the input; those after it follow from l_out.
//   y[l, j]  = b[j] + sum over t of x[l * stride + t * dilation - pad, j] * w[t, j]
//   dx[i, j] = sum of dy[l, j] * w[t, j] over all l, t with l * stride + t * dilation - pad = i
//   dw[t, j] = sum over samples and l of x[l * stride + t * dilation - pad, j] * dy[l, j];  db[j] = the sum of dy[l, j]
// All of this is bound by memory. A sum over taps is one chain in the order of the taps, a sum over rows has a fixed order in three levels.
//
// Launches, which src/ops/depthwise_conv1d.rs builds: 256 threads.
// * depthwise_forward: a thread has four neighbouring output rows of four channels (of one, where c is no multiple of four), so that it loads
//   a weight once for four products.
// * depthwise_backward_data: a thread has one row of four channels (or of one).
// * depthwise_backward_weight: up to 32 channels by 256 / lanes rows, eight taps; blocks = pieces * tiles, tiles = ceil(c / 32) * ceil(k / 8), the
//   channels running fastest. Writes partial sums `[pieces][k * c + c]` (without `+ c` where there is no bias), which conv_reduce adds.
#include "common.cuh"

#define THREADS 256
#define ROWS 4
#define TAPS 8

template <int WIDTH>
__device__ __forceinline__ void add_product(float (&sum)[WIDTH], const float (&a)[WIDTH], const float (&b)[WIDTH]) {
#pragma unroll
  for (int i = 0; i < WIDTH; i++) sum[i] = fmaf(a[i], b[i], sum[i]);
}

template <int WIDTH>
__device__ __forceinline__ void forward(const float* __restrict__ x, const float* __restrict__ w,
                                        const float* __restrict__ bias_or_null, float* __restrict__ y, int n, int l_in, int c,
                                        int l_out, int k, int stride, int dilation, int pad) {
  unsigned thread = blockIdx.x * THREADS + threadIdx.x;
  unsigned columns = (unsigned)c / WIDTH, groups = ((unsigned)l_out + ROWS - 1) / ROWS;
  if (thread / columns >= (unsigned)n * groups) return;
  int channel = (int)(thread % columns) * WIDTH;
  int sample = (int)(thread / columns / groups), first = (int)(thread / columns % groups) * ROWS;
  bool vectors = on_16(x) && on_16(w) && on_16(y) && on_16(bias_or_null);
  const float* from = x + (size_t)sample * l_in * c + channel;
  float sums[ROWS][WIDTH], start[WIDTH];
#pragma unroll
  for (int i = 0; i < WIDTH; i++) start[i] = 0.0f;
  if (bias_or_null != nullptr) load_wide(start, bias_or_null + channel, vectors);
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
#pragma unroll
    for (int i = 0; i < WIDTH; i++) sums[r][i] = start[i];
  }
#pragma unroll 1
  for (int t = 0; t < k; t++) {
    float weight[WIDTH];
    load_wide(weight, w + (size_t)t * c + channel, vectors);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      long long row = (long long)(first + r) * stride + (long long)t * dilation - pad;
      if (row < 0 || row >= l_in) continue;
      float v[WIDTH];
      load_wide(v, from + (size_t)row * c, vectors);
      add_product(sums[r], v, weight);
    }
  }
  float* to = y + ((size_t)sample * l_out + first) * c + channel;
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    if (first + r < l_out) store_wide(to + (size_t)r * c, sums[r], vectors);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    depthwise_forward(const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ bias_or_null,
                      float* __restrict__ y, int n, int l_in, int c, int l_out, int k, int stride, int dilation, int pad) {
  if (c % 4 == 0) {
    forward<4>(x, w, bias_or_null, y, n, l_in, c, l_out, k, stride, dilation, pad);
  } else {
    forward<1>(x, w, bias_or_null, y, n, l_in, c, l_out, k, stride, dilation, pad);
  }
}

template <int WIDTH>
__device__ __forceinline__ void backward_data(const float* __restrict__ dy, const float* __restrict__ w, float* __restrict__ dx,
                                              int n, int l_in, int c, int l_out, int k, int stride, int dilation, int pad) {
  unsigned thread = blockIdx.x * THREADS + threadIdx.x;
  unsigned columns = (unsigned)c / WIDTH, cell = thread / columns;
  if (cell >= (unsigned)n * (unsigned)l_in) return;
  int channel = (int)(thread % columns) * WIDTH;
  int sample = (int)(cell / (unsigned)l_in), row = (int)(cell % (unsigned)l_in);
  bool vectors = on_16(dy) && on_16(w) && on_16(dx);
  const float* from = dy + (size_t)sample * l_out * c + channel;
  float sum[WIDTH];
#pragma unroll
  for (int i = 0; i < WIDTH; i++) sum[i] = 0.0f;
  for (int t = k - 1; t >= 0; t--) {
    long long place = (long long)row + pad - (long long)t * dilation;
    if (place < 0) continue;
    unsigned l = (unsigned)place / (unsigned)stride;  // not above row + pad, which an int holds
    if (l * (unsigned)stride != (unsigned)place || l >= (unsigned)l_out) continue;
    float weight[WIDTH], g[WIDTH];
    load_wide(weight, w + (size_t)t * c + channel, vectors);
    load_wide(g, from + (size_t)l * c, vectors);
    add_product(sum, g, weight);
  }
  store_wide(dx + (size_t)cell * c + channel, sum, vectors);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    depthwise_backward_data(const float* __restrict__ dy, const float* __restrict__ w, float* __restrict__ dx, int n, int l_in,
                            int c, int l_out, int k, int stride, int dilation, int pad) {
  if (c % 4 == 0) {
    backward_data<4>(dy, w, dx, n, l_in, c, l_out, k, stride, dilation, pad);
  } else {
    backward_data<1>(dy, w, dx, n, l_in, c, l_out, k, stride, dilation, pad);
  }
}

// The sum of `value` over the rows of a block, a channel: to the threads of the first row.
__device__ __forceinline__ float over_rows(float value, int lanes, float* tile) {
  int t = threadIdx.x;
  __syncthreads();
  tile[t] = value;
  __syncthreads();
  for (int half = THREADS / 2; half >= lanes; half /= 2) {
    if (t < half) tile[t] += tile[t + half];
    __syncthreads();
  }
  return tile[t % lanes];
}

extern "C" __global__ void __launch_bounds__(THREADS)
    depthwise_backward_weight(const float* __restrict__ x, const float* __restrict__ dy, float* __restrict__ partials, int n,
                              int l_in, int c, int l_out, int k, int stride, int dilation, int pad, int piece_rows, int bias) {
  __shared__ float tile[THREADS];
  int lanes = 32;
  while (lanes / 2 >= c) lanes /= 2;
  int wide = (c + 31) / 32, tiles = wide * ((k + TAPS - 1) / TAPS);
  int piece = (int)blockIdx.x / tiles, first_tap = (int)blockIdx.x % tiles / wide * TAPS;
  int channel = (int)blockIdx.x % tiles % wide * 32 + (int)threadIdx.x % lanes;
  int group = (int)threadIdx.x / lanes, groups = THREADS / lanes;
  int first = piece * piece_rows, end = min(n * l_out - first, piece_rows) + first;
  float sums[TAPS], bias_sum = 0.0f;
#pragma unroll
  for (int t = 0; t < TAPS; t++) sums[t] = 0.0f;
  if (channel < c) {
    for (int at = first + group; at < end; at += groups) {
      float g = dy[(size_t)at * c + channel];
      bias_sum += g;
      const float* from = x + (size_t)(at / l_out) * l_in * c + channel;
      long long start = (long long)(at % l_out) * stride - pad;
#pragma unroll
      for (int t = 0; t < TAPS; t++) {
        long long row = start + (long long)(first_tap + t) * dilation;
        if (first_tap + t < k && row >= 0 && row < l_in) sums[t] = fmaf(from[(size_t)row * c], g, sums[t]);
      }
    }
  }
  float* to = partials + (size_t)piece * ((size_t)k * c + (bias != 0 ? c : 0)) + channel;
  bool writes = group == 0 && channel < c;
#pragma unroll
  for (int t = 0; t < TAPS; t++) {
    float sum = over_rows(sums[t], lanes, tile);
    if (writes && first_tap + t < k) to[(size_t)(first_tap + t) * c] = sum;
  }
  bias_sum = over_rows(bias_sum, lanes, tile);
  if (writes && bias != 0 && first_tap == 0) to[(size_t)k * c] = bias_sum;
}
