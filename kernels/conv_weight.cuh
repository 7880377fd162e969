// conv_weight.cuh: the gradient of a convolution's weights: for every tap a matrix product of (input channels) x positions x outputs.
//
// A block takes a piece of the positions (rows of all samples counted through, see conv.cuh), a segment of T taps, MC input channels
// and NC outputs. It brings PC positions at a time into shared memory, twice: while one stage is summed, the next arrives. Sums are in
// two levels: a stage's, and the piece's. Partial sums of piece i are numbers i * numbers .. of `partials`, in the order of the
// parameters, so that `conv_reduce` adds them. Grid: x = ((piece * segments + segment) * input tiles + tile) * output tiles + tile.
#pragma once
#include "conv_products.cuh"

constexpr int PC = 48;  // positions of a stage: a multiple of 3, see conv_matrix.cuh

template <int PRODUCTS, int T>
struct WeightTile;

// Fused multiply-adds. A thread makes T taps x A input channels x 4 outputs: with five taps 40 sums, 40 sums of sums, and from four
// positions at a time 16 numbers of the input and 16 of the gradient: about 125 registers (three taps: 140). Stages take 32 KB: four
// blocks an SM (three).
template <int T>
struct WeightTile<FMA, T> {
  static constexpr int A = T == 5 ? 2 : 4, MC = 16 * A, NC = 32, LDX = MC + 8, LDG = NC + 8, STEP = T == 5 ? 4 : 2;
  float acc[T][A][4] = {}, sum[T][A][4] = {};

  __device__ __forceinline__ void products(const float* rows, const float* gradient) {
    const float* a = rows + threadIdx.x / 8 * A;
    const float* b = gradient + threadIdx.x % 8 * 4;
#pragma unroll 1
    for (int p = 0; p < PC; p += STEP) {
      float x[STEP + T - 1][A];
#pragma unroll
      for (int r = 0; r < STEP + T - 1; r++)
#pragma unroll
        for (int i = 0; i < A; i += 2) {
          float2 v = *reinterpret_cast<const float2*>(a + (p + r) * LDX + i);
          x[r][i] = v.x;
          x[r][i + 1] = v.y;
        }
#pragma unroll
      for (int r = 0; r < STEP; r++) {
        float4 g = *reinterpret_cast<const float4*>(b + (p + r) * LDG);
#pragma unroll
        for (int tap = 0; tap < T; tap++)
#pragma unroll
          for (int i = 0; i < A; i++) {
            acc[tap][i][0] = fmaf(x[r + tap][i], g.x, acc[tap][i][0]);
            acc[tap][i][1] = fmaf(x[r + tap][i], g.y, acc[tap][i][1]);
            acc[tap][i][2] = fmaf(x[r + tap][i], g.z, acc[tap][i][2]);
            acc[tap][i][3] = fmaf(x[r + tap][i], g.w, acc[tap][i][3]);
          }
      }
    }
  }

  __device__ __forceinline__ void flush() {
#pragma unroll
    for (int tap = 0; tap < T; tap++)
#pragma unroll
      for (int i = 0; i < A; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
          sum[tap][i][j] += acc[tap][i][j];
          acc[tap][i][j] = 0.f;
        }
  }

  // Hands every sum to `to(tap, input channel, output, sum)`.
  template <class To>
  __device__ __forceinline__ void each(To to) const {
#pragma unroll
    for (int tap = 0; tap < T; tap++)
#pragma unroll
      for (int i = 0; i < A; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) to(tap, threadIdx.x / 8 * A + i, threadIdx.x % 8 * 4 + j, sum[tap][i][j]);
  }
};

template <class Tile, int T>
__device__ __forceinline__ void conv_backward_weight(const Source& gradient, const Source& input, int k, int stride, int dilation,
                                                     int pad, int pitch_rows, int piece_rows, float* partials, int numbers,
                                                     bool with_bias) {
  constexpr int MC = Tile::MC, NC = Tile::NC, ROWS = PC + T - 1, PARTS = THREADS / NC;
  constexpr int GRADIENT = ROWS * Tile::LDX, STAGE = GRADIENT + PC * Tile::LDG;
  using Gradient = Stage<PC, NC, Tile::LDG>;
  DYN_SHARED(float, shared);
  Divisor pitch(pitch_rows);
  int segments = (k + T - 1) / T, inputs = (input.c + MC - 1) / MC, outputs = (gradient.c + NC - 1) / NC;
  int block = blockIdx.x, co = block % outputs * NC;
  block /= outputs;
  int ci = block % inputs * MC;
  block /= inputs;
  int segment = block % segments, piece = block / segments;
  int begin = piece * piece_rows, end = min(begin + piece_rows, input.n * pitch_rows);
  int stages = (end - begin + PC - 1) / PC;
  // Each thread also sums a part of the positions of one output, for the bias.
  bool biased = with_bias && segment == 0 && ci == 0;
  int column = threadIdx.x % NC, part = threadIdx.x / NC;
  float bias = 0.f;
  Tile tile;

  Stage<ROWS, MC, Tile::LDX> rows = {input, pitch, stride};
  Gradient gradients = {gradient, pitch, 1};
  int stage_size = STAGE + Gradient::beside(gradient);

  auto stage = [&](int it) {
    float* to = shared + it % 2 * stage_size;
    rows.bring(to, nullptr, begin + it * PC, segment * T * dilation - pad, ci);
    gradients.bring(to + GRADIENT, to + STAGE, begin + it * PC, 0, co);
  };

#pragma unroll 1
  for (int it = -1; it < stages; it++) {
    if (it + 1 < stages) stage(it + 1);
    cp_async_commit();
    if (it < 0) continue;
    cp_async_wait<1>();
    float* from = shared + it % 2 * stage_size;
    float* g = from + GRADIENT;
    gradients.finish(g, from + STAGE, begin + it * PC, 0, co);
    __syncthreads();
    tile.products(from, g);
    tile.flush();
    if (biased) {
      float sum = 0.f;
      for (int row = part * (PC / PARTS); row < (part + 1) * (PC / PARTS); row++) sum += g[row * Tile::LDG + column];
      bias += sum;
    }
    __syncthreads();
  }

  float* to = partials + (size_t)piece * numbers;
  tile.each([&](int tap, int i, int o, float sum) {
    tap += segment * T;
    if (tap < k && ci + i < input.c && co + o < gradient.c) to[((size_t)tap * input.c + ci + i) * gradient.c + co + o] = sum;
  });
  if (!biased) return;  // all threads of the block or none
  shared[threadIdx.x] = bias;
  __syncthreads();
  if (part == 0 && co + column < gradient.c) {
    for (int i = 1; i < PARTS; i++) bias += shared[i * NC + column];
    to[(size_t)k * input.c * gradient.c + co + column] = bias;
  }
}

// The source is the gradient of the convolution's output; `input` is [n][l_in][c_in].
#define CONV_BACKWARD_WEIGHT(name, PRODUCTS, T, BLOCKS)                                                                          \
  extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                                                  \
      name(CONV_SOURCE, const float* __restrict__ input, int l_in, int c_in, int k, int stride, int dilation, int pad, int pitch, \
           int piece_rows, float* partials, int numbers, int with_bias) {                                                        \
    Source gradient = {x, y, argmax, z, coefficients, n, l, c, window, cells, spread};                                         \
    Source rows = {input, nullptr, nullptr, nullptr, nullptr, n, l_in, c_in, 1, 0, 1};                                           \
    conv_backward_weight<WeightTile<PRODUCTS, T>, T>(gradient, rows, k, stride, dilation, pad, pitch, piece_rows, partials,      \
                                                     numbers, with_bias);                                                        \
  }
