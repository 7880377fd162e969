// conv_mono.cu: convolutions of one input channel, always in f32: bound by what they write and by the gradient that they read.
//
// Forward is conv_forward.cuh with a stage of one channel and five taps: a thread makes 6 positions x 8 outputs, 48 sums, from ten
// numbers of the input and 8 weights: 127 registers, four blocks an SM.
//
// Backward-weight needs no matrix product: lanes are outputs (up to 32 side by side), the block's other threads share the positions,
// and each keeps the sums of five taps and of the bias. A pooled gradient without norm is read as it is, one row of a window. Grid:
// x = (piece * segments + segment) * output groups + group; sums in two levels; partial sums as in conv_weight.cuh.
#include "conv_forward.cuh"

template <int T, int BM, int BN>
struct Tile<MONO, T, BM, BN> {
  static constexpr int KC = 1, LDA = 1, LDB = BN + 8, WEIGHT_ROWS = T, PARTS = 1, FLUSH = 1, SHARES = 1, DEPTH = 2;
  static constexpr int GROUPS = BN / 8;
  float sum[6][8] = {};

  __device__ __forceinline__ void products(const float* rows, const float* weights) {
    const float* a = rows + threadIdx.x / GROUPS * 6;
    const float* b = weights + threadIdx.x % GROUPS * 4;
    float x[T + 5];
#pragma unroll
    for (int r = 0; r < T + 5; r++) x[r] = a[r];
#pragma unroll
    for (int tap = 0; tap < T; tap++) {
      float4 w0 = *reinterpret_cast<const float4*>(b + tap * LDB), w1 = *reinterpret_cast<const float4*>(b + tap * LDB + BN / 2);
#pragma unroll
      for (int r = 0; r < 6; r++) {
        sum[r][0] = fmaf(x[r + tap], w0.x, sum[r][0]);
        sum[r][1] = fmaf(x[r + tap], w0.y, sum[r][1]);
        sum[r][2] = fmaf(x[r + tap], w0.z, sum[r][2]);
        sum[r][3] = fmaf(x[r + tap], w0.w, sum[r][3]);
        sum[r][4] = fmaf(x[r + tap], w1.x, sum[r][4]);
        sum[r][5] = fmaf(x[r + tap], w1.y, sum[r][5]);
        sum[r][6] = fmaf(x[r + tap], w1.z, sum[r][6]);
        sum[r][7] = fmaf(x[r + tap], w1.w, sum[r][7]);
      }
    }
  }

  __device__ __forceinline__ void flush() {}

  template <int LDT>
  __device__ __forceinline__ void spill(float* tile) const {
    float* to = tile + threadIdx.x / GROUPS * 6 * LDT + threadIdx.x % GROUPS * 4;
#pragma unroll
    for (int r = 0; r < 6; r++) {
      *reinterpret_cast<float4*>(to + r * LDT) = make_float4(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
      *reinterpret_cast<float4*>(to + r * LDT + BN / 2) = make_float4(sum[r][4], sum[r][5], sum[r][6], sum[r][7]);
    }
  }
};

CONV_FORWARD(conv_forward_5x32_mono, MONO, 5, 192, 32, 4)
CONV_FORWARD(conv_forward_5x64_mono, MONO, 5, 96, 64, 4)

constexpr int TAPS = 5;    // of a segment
constexpr int CHAIN = 16;  // rows in a sum before it joins the total

// The sums of a thread: of five taps, and of the gradient.
struct Sums {
  float of[TAPS + 1] = {};

  // x points to the sample; `first_row` is the row of the first tap.
  __device__ __forceinline__ void add(const float* __restrict__ x, int first_row, int dilation, int l_in, float g) {
#pragma unroll
    for (int tap = 0; tap < TAPS; tap++) {
      int row = first_row + tap * dilation;
      float v = row >= 0 && row < l_in ? x[row] : 0.f;
      of[tap] = fmaf(v, g, of[tap]);
    }
    of[TAPS] += g;
  }
};

extern "C" __global__ void __launch_bounds__(THREADS)
    conv_backward_weight_mono(CONV_SOURCE, const float* __restrict__ input, int l_in, int c_in, int k, int stride, int dilation,
                                int pad, int lanes, int piece_rows, float* partials, int numbers, int with_bias) {
  __shared__ float shared[TAPS + 1][THREADS];
  Source gradient = {x, y, argmax, z, coefficients, n, l, c, window, cells, spread};
  int groups = (c + lanes - 1) / lanes, segments = (k + TAPS - 1) / TAPS, block = blockIdx.x;
  int channel = block % groups * lanes + threadIdx.x % lanes;
  block /= groups;
  int segment = block % segments, piece = block / segments;
  bool sparse = argmax && !coefficients;
  // Rows, or the cells of a sparse gradient, of all samples counted through.
  Divisor rows(sparse ? cells : l);
  int step = THREADS / lanes, begin = piece * piece_rows, end = min(begin + piece_rows, n * (sparse ? cells : l));
  int offset = segment * TAPS * dilation - pad;
  Sums total;
  if (channel < c) {
    for (int chain = begin + threadIdx.x / lanes; chain < end; chain += CHAIN * step) {
      Sums sums;
#pragma unroll 4
      for (int i = 0; i < CHAIN; i++) {
        int at = chain + i * step, sample, row;
        bool there = at < end;  // the loads of those beyond are harmless, and none waits for another
        rows.divide(there ? at : begin, sample, row);
        float g;
        if (sparse) {
          size_t number = (size_t)(there ? at : begin) * c + channel;
          int chosen = argmax[number];
          g = there && chosen < window ? x[number] : 0.f;
          row = row * window + (chosen < window ? chosen : 0);
        } else {
          g = there ? gradient.read1(sample, row, channel) : 0.f;
        }
        sums.add(input + (size_t)sample * l_in, row * stride + offset, dilation, l_in, g);
      }
#pragma unroll
      for (int i = 0; i <= TAPS; i++) total.of[i] += sums.of[i];
    }
  }
#pragma unroll
  for (int i = 0; i <= TAPS; i++) shared[i][threadIdx.x] = total.of[i];
  __syncthreads();
  // The threads of a channel share the sums; each adds one over all parts of the positions.
  for (int i = threadIdx.x / lanes; i <= TAPS; i += step) {
    int tap = segment * TAPS + i;
    bool bias = i == TAPS;
    if (channel >= c || (bias ? !with_bias || segment > 0 : tap >= k)) continue;
    float sum = 0.f;
    for (int part = 0; part < step; part++) sum += shared[i][part * lanes + threadIdx.x % lanes];
    partials[(size_t)piece * numbers + (size_t)(bias ? k : tap) * c + channel] = sum;
  }
}
