// conv_matrix.cuh: the products of a stage by the matrix units: `Tile` and `WeightTile` in three precisions.
//
// lane = 4g + t; fragments as in common.cuh. Row r of m-tile mt is position 3r + mt, so that tap `tap` of that tile reads fragment
// mt + tap, whose rows are 3r + mt + tap: T + 2 fragments, three of them in registers at a time, serve 3T products. Row strides keep a warp's loads in
// 32 banks: 3 LDA is 4 times an odd number mod 32 (8 times one for bf16, which loads pairs), LDB is 8.
//
// SPLIT: x = high + low with high by cutting; weights come in two parts. Low products first; the units' sums are emptied into ordinary
// ones every stage, that is every 16 to 40 of K, because the units cut what they add. TF32: rows are rounded when they are read,
// weights when they are packed. BF16: likewise, two channels in a word.
#pragma once
#include "conv_weight.cuh"

// A fragment, in one or two parts.
template <int PRODUCTS>
struct Fragment {
  static constexpr int PARTS = PRODUCTS == SPLIT ? 2 : 1;
  uint32_t part[PARTS][4];

  __device__ __forceinline__ void set(int i, float v) {
    if constexpr (PRODUCTS == SPLIT) {
      part[0][i] = tf32_high(v);
      part[1][i] = tf32_low(v);
    } else {
      part[0][i] = to_tf32(v);
    }
  }
  __device__ __forceinline__ void set(int i, float first, float second) { part[0][i] = pack_bf16x2(first, second); }
};

// The other factor: 8 or 16 of K by 8 columns.
template <int PRODUCTS>
struct Columns {
  uint32_t part[PRODUCTS == SPLIT ? 2 : 1][2];

  __device__ __forceinline__ void set(int i, float v) {
    part[0][i] = to_tf32(v);
    if constexpr (PRODUCTS == SPLIT) part[1][i] = to_tf32(v - __uint_as_float(part[0][i]));
  }
  __device__ __forceinline__ void set(int i, float first, float second) { part[0][i] = pack_bf16x2(first, second); }
};

template <int PRODUCTS>
__device__ __forceinline__ void multiply(float (&d)[4], const Fragment<PRODUCTS>& a, const Columns<PRODUCTS>& b) {
  if constexpr (PRODUCTS == BF16) {
    mma_bf16(d, a.part[0], b.part[0]);
  } else {
    if constexpr (PRODUCTS == SPLIT) {
      mma_tf32(d, a.part[1], b.part[0]);
      mma_tf32(d, a.part[0], b.part[1]);
    }
    mma_tf32(d, a.part[0], b.part[0]);
  }
}

// Forward: a warp makes 48 positions x 32 outputs: 48 sums, for SPLIT as many sums of sums, 12 to 24 words of rows, 2 to 4 of
// weights: 163 registers for SPLIT, about 135 otherwise: three blocks an SM. In a small tile a warp makes 48 x 16 of half of a stage's
// channels, and SPLIT takes weights as they are, half as many bytes, and parts them as it reads them: at most 99 registers, so that shared
// memory alone says how many blocks: two to four an SM.
template <int PRODUCTS, int T, int BM, int BN>
struct Tile {
  static constexpr bool PAIRS = PRODUCTS == BF16, FLUSHES = PRODUCTS == SPLIT;
  static constexpr int STEP = PAIRS ? 16 : 8, NT = BM == 48 ? 2 : 4;  // K of a product; tiles of eight outputs of a warp
  static constexpr int WIDE = BN / (8 * NT), SHARES = THREADS / 32 / (WIDE * (BM / 48)), DEPTH = SHARES > 1 ? 3 : 2;
  static constexpr int KC = SHARES > 1 ? SHARES * STEP : T > 1 && FLUSHES ? 8 : 16, LDA = KC + (PAIRS ? 8 : 4), LDB = BN + 8;
  static constexpr int WORDS = PAIRS ? KC / 2 : KC, WEIGHT_ROWS = T * WORDS, FLUSH = 1;
  static constexpr int PARTS = FLUSHES && SHARES == 1 ? 2 : 1;
  float acc[3][NT][4] = {}, sum[FLUSHES ? 3 : 1][NT][4] = {};

  __device__ __forceinline__ static void load(Fragment<PRODUCTS>& to, const float* a) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float* from = a + i % 2 * 24 * LDA + i / 2 * (STEP / 2);
      if constexpr (PAIRS) {
        float2 v = *reinterpret_cast<const float2*>(from);
        to.set(i, v.x, v.y);
      } else {
        to.set(i, *from);
      }
    }
  }

  __device__ __forceinline__ void products(const float* rows, const float* weights) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    int share = SHARES > 1 ? warp / WIDE : 0, tall = SHARES > 1 ? 0 : warp / WIDE;
    const float* a = rows + (tall * 48 + 3 * g) * LDA + share * (KC / SHARES) + (PAIRS ? 2 * t : t);
    const float* b = weights + (share * (WORDS / SHARES) + t) * LDB + warp % WIDE * (8 * NT) + g;
#pragma unroll(PRODUCTS == SPLIT ? 1 : 2)
    for (int k = 0; k < KC / SHARES; k += STEP) {
      Fragment<PRODUCTS> fragments[3];
#pragma unroll
      for (int j = 0; j < T + 2; j++) {
        load(fragments[j % 3], a + j * LDA + k);
        if (j < 2) continue;
        const int tap = j - 2;
#pragma unroll
        for (int n = 0; n < NT; n++) {
          Columns<PRODUCTS> columns;
#pragma unroll
          for (int part = 0; part < PARTS; part++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
              float v = b[(part * WEIGHT_ROWS + tap * WORDS + k / (PAIRS ? 2 : 1) + 4 * i) * LDB + 8 * n];
              if constexpr (FLUSHES && PARTS == 1)
                columns.set(i, v);
              else
                columns.part[part][i] = __float_as_uint(v);
            }
#pragma unroll
          for (int mt = 0; mt < 3; mt++) multiply(acc[mt][n], fragments[(mt + tap) % 3], columns);
        }
      }
    }
  }

  __device__ __forceinline__ void flush() {
    if constexpr (FLUSHES) {
#pragma unroll
      for (int mt = 0; mt < 3; mt++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
          for (int i = 0; i < 4; i++) {
            sum[mt][n][i] += acc[mt][n][i];
            acc[mt][n][i] = 0.f;
          }
    }
  }

  template <int LDT>
  __device__ __forceinline__ void spill(float* tile) const {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    // In a small tile the second share's lies behind the first's.
    float* to = tile + (warp / WIDE * 48 + 3 * g) * LDT + warp % WIDE * (8 * NT) + 2 * t;
#pragma unroll
    for (int mt = 0; mt < 3; mt++)
#pragma unroll
      for (int n = 0; n < NT; n++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
          const float* v = FLUSHES ? sum[FLUSHES ? mt : 0][n] : acc[mt][n];
          *reinterpret_cast<float2*>(to + (24 * h + mt) * LDT + 8 * n) = make_float2(v[2 * h], v[2 * h + 1]);
        }
  }
};

// Backward-weight: a warp makes T taps x 16 input channels x 16 outputs. The sum over positions may take any order: slot s of
// group m is position 3s + m, so that tap `tap` of group m reads fragment m + tap. Sums are emptied every stage in all precisions. With
// five taps 40 sums, 40 sums of sums, 12 to 24 words of the gradient, 4 to 8 of the input.
template <int PRODUCTS, int T>
struct WeightTile {
  static constexpr bool PAIRS = PRODUCTS == BF16;
  static constexpr int MC = 32, NC = 32, LDX = MC + 8, LDG = NC + 8, SLOTS = PAIRS ? 16 : 8;
  float acc[T][2][4] = {}, sum[T][2][4] = {};

  __device__ __forceinline__ void products(const float* rows, const float* gradient) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const float* a = rows + 3 * t * LDX + warp / 2 * 16 + g;
    const float* b = gradient + 3 * t * LDG + warp % 2 * 16 + g;
    // Slots t and t + 4 of eight; of sixteen, the pairs t, t + 4 and t + 8, t + 12.
#pragma unroll 1
    for (int p = 0; p < PC; p += 3 * SLOTS, a += 3 * SLOTS * LDX, b += 3 * SLOTS * LDG) {
      Columns<PRODUCTS> columns[3][2];
#pragma unroll
      for (int m = 0; m < 3; m++)
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
          for (int i = 0; i < 2; i++) {
            const float* from = b + (m + i * (SLOTS / 2) * 3) * LDG + 8 * n;
            if constexpr (PAIRS)
              columns[m][n].set(i, from[0], from[12 * LDG]);
            else
              columns[m][n].set(i, from[0]);
          }
#pragma unroll
      for (int j = 0; j < T + 2; j++) {
        Fragment<PRODUCTS> fragment;
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float* from = a + (j + i / 2 * (SLOTS / 2) * 3) * LDX + i % 2 * 8;
          if constexpr (PAIRS)
            fragment.set(i, from[0], from[12 * LDX]);
          else
            fragment.set(i, from[0]);
        }
#pragma unroll
        for (int m = 0; m < 3; m++) {
          const int tap = j - m;
          if (tap < 0 || tap >= T) continue;
#pragma unroll
          for (int n = 0; n < 2; n++) multiply(acc[tap][n], fragment, columns[m][n]);
        }
      }
    }
  }

  __device__ __forceinline__ void flush() {
#pragma unroll
    for (int tap = 0; tap < T; tap++)
#pragma unroll
      for (int n = 0; n < 2; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
          sum[tap][n][i] += acc[tap][n][i];
          acc[tap][n][i] = 0.f;
        }
  }

  template <class To>
  __device__ __forceinline__ void each(To to) const {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int tap = 0; tap < T; tap++)
#pragma unroll
      for (int n = 0; n < 2; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
          to(tap, warp / 2 * 16 + g + i / 2 * 8, warp % 2 * 16 + 8 * n + 2 * t + i % 2, sum[tap][n][i]);
  }
};
