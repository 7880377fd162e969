// conv_forward.cuh: a convolution as a matrix product of positions x (taps x channels) x outputs, without a copy of its rows, and
// what becomes of the sums while they are at hand. Backward-data is the same with flipped, transposed weights and a gradient's rows.
//
// Grid: x tiles of positions (rows of all samples counted through, see conv.cuh), y tiles of outputs. Longer kernels go in segments
// of T taps; with T = 1 a tap is a segment, whatever stride and dilation. Weights are packed [part][segments * T][channels, whole
// stages][outputs, whole tiles].
//
// Dynamic shared memory: DEPTH stages or the tiles of sums, whichever is larger. Two stages of five taps take, for 32 and 64 outputs,
// FMA 32 and 33 KB, SPLIT 44 and 56, TF32 57 and 62, BF16 50 and 42; a norm's gradient 8 to 31 KB more for its rows. Three of a small
// tile take FMA 26 KB, SPLIT and TF32 50, BF16 62; a norm's gradient 6, 12 and 24 KB more.
#pragma once
#include "conv_products.cuh"

// What is written of the sums.
constexpr int STORE = 0;    // with bias
constexpr int ACTIVE = 1;   // bias or affine map, maximum of each window, ReLU; and its argmax
constexpr int OBSERVE = 2;  // for a batch norm to come: with bias; what the pool will choose; perhaps statistics of every tile

constexpr int NO_GRADIENT = 7;  // instead of an argmax: the window's output is not above zero

struct Output {
  int mode;
  const float* bias;        // [c], or null
  const float* affine;      // [c][2]: factor and offset instead of the bias, or null
  const float* scale;       // [c]: the sign of what the norm will multiply by
  float* rows_out;          // [n][rows][c]; in mode ACTIVE [n][cells][c]
  float* pooled;            // [n][cells][c], mode OBSERVE; null without pool
  unsigned char* argmax;  // [n][cells][c], or null
  float* partials;          // [n * tiles a sample][c][2]: mean, sum of squares around it; or null
  int n, rows, c, window, cells;

  template <int BM, int BN, int LDT>
  __device__ __forceinline__ void store_rows(const float* tile, const Divisor& pitch, int first, int channel) const {
#pragma unroll 1
    for (int i = threadIdx.x; i < BM * (BN / 4); i += THREADS) {
      int row = i / (BN / 4), quad = i % (BN / 4) * 4, sample, p, left = c - channel - quad;
      pitch.divide(first + row, sample, p);
      if (sample >= n || p >= rows || left <= 0) continue;
      bool whole = c % 4 == 0;
      float4 v = *reinterpret_cast<const float4*>(tile + row * LDT + quad);
      if (bias) {
        float4 b = load4(bias + channel + quad, left, whole);
        v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
      }
      store4(rows_out + ((size_t)sample * rows + p) * c + channel + quad, v, left, whole);
    }
  }

  // Factor and offset of a channel, of which the factor's sign says which row of a window will be the largest.
  __device__ __forceinline__ float2 map(int channel) const {
    if (channel >= c) return make_float2(1.f, 0.f);
    if (affine) return make_float2(affine[2 * channel], affine[2 * channel + 1]);
    return make_float2(scale && scale[channel] < 0.f ? -1.f : 1.f, bias ? bias[channel] : 0.f);
  }

  // The first of equal rows is chosen; a NaN passes.
  template <int BM, int BN, int LDT>
  __device__ __forceinline__ void store_cells(const float* tile, const Divisor& pitch, int first, int channel) const {
#pragma unroll 1
    for (int i = threadIdx.x; i < BM / window * (BN / 4); i += THREADS) {
      int row = i / (BN / 4) * window, quad = i % (BN / 4) * 4, sample, p, left = c - channel - quad;
      pitch.divide(first + row, sample, p);
      int cell = p / window, count = min(window, rows - p);
      if (sample >= n || cell >= cells || left <= 0) continue;
      float value[4];
      unsigned chosen = 0;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        float2 to = map(channel + quad + j);
        float best = tile[row * LDT + quad + j];
        unsigned at = 0;
#pragma unroll 1
        for (int t = 1; t < count; t++) {
          float v = tile[(row + t) * LDT + quad + j];
          if ((to.x < 0.f ? v < best : v > best) || v != v) {
            best = v;
            at = t;
          }
        }
        value[j] = fmaf(mode == OBSERVE ? 1.f : to.x, best, to.y);
        if (mode == ACTIVE && value[j] <= 0.f) {
          value[j] = 0.f;
          at = NO_GRADIENT;
        }
        chosen |= at << 8 * j;
      }
      size_t number = ((size_t)sample * cells + cell) * c + channel + quad;
      float* numbers = mode == ACTIVE ? rows_out : pooled;
      if (numbers) store4(numbers + number, make_float4(value[0], value[1], value[2], value[3]), left, c % 4 == 0);
      if (argmax) store_bytes4(argmax + number, chosen, left, c % 4 == 0);
    }
  }

  // Mean and sum of squared deviations of the tile's `valid` rows, which are of one sample. In two passes; the second corrects the
  // mean. `scratch` is 2 * THREADS floats.
  template <int BM, int BN, int LDT>
  __device__ __forceinline__ void store_moments(const float* tile, float* scratch, int valid, int channel, size_t piece) const {
    constexpr int PARTS = THREADS / BN;
    int column = threadIdx.x % BN, part = threadIdx.x / BN;
    int begin = part * (BM / PARTS), end = min(begin + BM / PARTS, valid);
    float sum = 0.f;
    for (int row = begin; row < end; row++) sum += tile[row * LDT + column];
    scratch[threadIdx.x] = sum;
    __syncthreads();
    float mean = 0.f;
    for (int i = 0; i < PARTS; i++) mean += scratch[i * BN + column];
    mean /= (float)valid;
    __syncthreads();
    float deviation = 0.f, squares = 0.f;
    for (int row = begin; row < end; row++) {
      float d = tile[row * LDT + column] - mean;
      deviation += d;
      squares = fmaf(d, d, squares);
    }
    scratch[threadIdx.x] = deviation;
    scratch[THREADS + threadIdx.x] = squares;
    __syncthreads();
    if (part == 0 && channel + column < c) {
      deviation = squares = 0.f;
      for (int i = 0; i < PARTS; i++) {
        deviation += scratch[i * BN + column];
        squares += scratch[THREADS + i * BN + column];
      }
      float shift = deviation / (float)valid;
      float* to = partials + (piece * c + channel + column) * 2;
      to[0] = mean + shift + (bias ? bias[channel + column] : 0.f);
      to[1] = fmaxf(squares - deviation * shift, 0.f);
    }
  }
};

// Adds the sums of all shares to those of the first, in their order.
template <int SHARES, int BM, int BN, int LDT>
__device__ __forceinline__ void add_shares(float* tile) {
#pragma unroll
  for (int i = threadIdx.x; i < BM * (BN / 4); i += THREADS) {
    float4* to = reinterpret_cast<float4*>(tile + i / (BN / 4) * LDT + i % (BN / 4) * 4);
    float4 sum = *to;
#pragma unroll
    for (int share = 1; share < SHARES; share++) {
      float4 v = to[share * (BM * LDT / 4)];
      sum = make_float4(sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w);
    }
    *to = sum;
  }
}

// Brings the weights of T taps and KC channels into `to`, parts one after the other.
template <class Tile, int T, int BN>
__device__ __forceinline__ void stage_weights(float* to, const float* weights, size_t part_size, int channels, int outputs, int tap0,
                                              int channel, int first) {
  constexpr int WORDS = Tile::WEIGHT_ROWS / T;  // rows of a tap
#pragma unroll 1
  for (int i = threadIdx.x; i < Tile::PARTS * Tile::WEIGHT_ROWS * (BN / 4); i += THREADS) {
    int row = i / (BN / 4), quad = i % (BN / 4) * 4, part = row / Tile::WEIGHT_ROWS, tap = row % Tile::WEIGHT_ROWS / WORDS;
    size_t from = (size_t)(tap0 + tap) * channels + channel + row % WORDS;
    cp_async16(to + row * Tile::LDB + quad, weights + part * part_size + from * outputs + first + quad);
  }
}

template <class Tile, int T, int BM, int BN>
__device__ __forceinline__ void conv_forward(const Source& source, const Output& output, const float* weights, int segments,
                                             int stride, int dilation, int pad, int pitch_rows) {
  constexpr int KC = Tile::KC, WORDS = Tile::WEIGHT_ROWS / T, ROWS = BM + T - 1, LDT = BN + 4, DEPTH = Tile::DEPTH;
  constexpr int WEIGHTS = ROWS * Tile::LDA, STAGE = WEIGHTS + Tile::PARTS * Tile::WEIGHT_ROWS * Tile::LDB;
  using Rows = Stage<ROWS, KC == 1 ? 4 : KC, Tile::LDA>;
  DYN_SHARED(float, shared);
  Divisor pitch(pitch_rows);
  int first = blockIdx.x * BM, n0 = blockIdx.y * BN, sample, p;
  pitch.divide(first, sample, p);
  if (p >= output.rows && p + BM <= pitch_rows) return;  // rows between samples only
  int chunks = (source.c + KC - 1) / KC, outputs = gridDim.y * BN;
  size_t part_size = (size_t)segments * T * chunks * WORDS * outputs;
  int stages = segments * chunks;
  Tile tile;

  Rows rows = {source, pitch, stride};
  int stage_size = STAGE + (KC == 1 ? 0 : Rows::beside(source));

  auto stage = [&](int it) {
    int segment = it / chunks, chunk = it - segment * chunks;
    float* to = shared + it % DEPTH * stage_size;
    if constexpr (KC == 1)
      stage_mono<ROWS>(to, source, pitch, first, segment * T - pad);
    else
      rows.bring(to, to + STAGE, first, segment * T * dilation - pad, chunk * KC);
    stage_weights<Tile, T, BN>(to + WEIGHTS, weights, part_size, chunks * WORDS, outputs, segment * T, chunk * WORDS, n0);
  };

#pragma unroll 1
  for (int it = 1 - DEPTH; it < stages; it++) {
    if (it + DEPTH - 1 < stages) stage(it + DEPTH - 1);
    cp_async_commit();
    if (it < 0) continue;
    cp_async_wait<DEPTH - 1>();
    float* from = shared + it % DEPTH * stage_size;
    int segment = it / chunks;
    if constexpr (KC > 1) rows.finish(from, from + STAGE, first, segment * T * dilation - pad, (it - segment * chunks) * KC);
    __syncthreads();
    tile.products(from, from + WEIGHTS);
    if (it % Tile::FLUSH == Tile::FLUSH - 1 || it + 1 == stages) tile.flush();
    __syncthreads();
  }

  tile.template spill<LDT>(shared);
  __syncthreads();
  if constexpr (Tile::SHARES > 1) {
    add_shares<Tile::SHARES, BM, BN, LDT>(shared);
    __syncthreads();
  }
  if (output.mode != ACTIVE) output.store_rows<BM, BN, LDT>(shared, pitch, first, n0);
  if (output.mode != STORE) output.store_cells<BM, BN, LDT>(shared, pitch, first, n0);
  if (output.partials) {
    size_t piece = (size_t)sample * ((output.rows + BM - 1) / BM) + p / BM;
    output.store_moments<BM, BN, LDT>(shared, shared + BM * LDT, min(BM, output.rows - p), n0, piece);
  }
}

#define CONV_FORWARD(name, PRODUCTS, T, BM, BN, BLOCKS)                                                                         \
  extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                                                 \
      name(CONV_SOURCE, const float* __restrict__ weights, int segments, int stride, int dilation, int pad, int pitch, int mode, \
           const float* __restrict__ bias, const float* __restrict__ affine, const float* __restrict__ scale, float* rows_out,  \
           float* pooled, unsigned char* position_out, float* partials, int rows, int c_out, int window_out, int cells_out) {   \
    Source source = {x, y, argmax, z, coefficients, n, l, c, window, cells, spread};                                          \
    Output output = {mode, bias, affine, scale, rows_out, pooled, position_out, partials, n, rows, c_out, window_out, cells_out}; \
    conv_forward<Tile<PRODUCTS, T, BM, BN>, T, BM, BN>(source, output, weights, segments, stride, dilation, pad, pitch);        \
  }
