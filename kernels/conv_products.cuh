// conv_products.cuh: the products of a stage, from rows and taps in shared memory.
//
// A stage holds BM + T - 1 rows of KC channels (row stride LDA) and T taps of KC x BN weights (row stride LDB). Position p and tap
// t meet in row p + t. Four warps make a tile of 192 positions x 32 outputs or 96 x 64, 48 x 32 each. Where those are too few blocks for
// a chip, they make 48 x 32 together: SHARES groups of them take as many parts of the channels of every stage, and their sums are
// added when all stages are done. What counts there is how long one block takes: DEPTH stages, all of many layers', arrive at once.
#pragma once
#include "conv.cuh"

// How products are made; the order is that of `Products` in src/ops/device.rs.
constexpr int FMA = 0, SPLIT = 1, TF32 = 2, BF16 = 3;
constexpr int MONO = 4;  // fused multiply-adds with one input channel

// The sums of a block and how they are made.
template <int PRODUCTS, int T, int BM, int BN>
struct Tile;

// Fused multiply-adds. A thread makes 6 positions x 8 outputs from two channels at a time: 48 sums, 48 sums of sums, (T + 5) x 2
// numbers of rows and 8 weights: 161 to 168 registers, three blocks an SM. Row stride KC + 4: the two to four groups of positions
// in a warp that read at once do so from different banks, the others the same address. In a small tile each warp takes two channels
// of a stage's eight: 134 to 168 registers, three blocks an SM.
template <int T, int BM, int BN>
struct Tile<FMA, T, BM, BN> {
  static constexpr int KC = 8, LDA = KC + 4, LDB = BN + 8, WEIGHT_ROWS = T * KC, PARTS = 1;
  static constexpr int GROUPS = BN / 8, SHARE = BM / 6 * GROUPS;  // groups of outputs; threads that make all sums
  static constexpr int SHARES = THREADS / SHARE, DEPTH = SHARES > 1 ? 3 : 2;
  static constexpr int FLUSH = (T == 5 ? 4 : 8) * SHARES;  // stages in one chain: 160 to 192 terms
  float acc[6][8] = {}, sum[6][8] = {};

  __device__ __forceinline__ static int share() { return SHARES > 1 ? threadIdx.x / SHARE : 0; }
  __device__ __forceinline__ static int thread_of_share() { return SHARES > 1 ? threadIdx.x % SHARE : threadIdx.x; }

  __device__ __forceinline__ void products(const float* rows, const float* weights) {
    const float* a = rows + thread_of_share() / GROUPS * 6 * LDA + share() * (KC / SHARES);
    const float* b = weights + thread_of_share() % GROUPS * 4 + share() * (KC / SHARES) * LDB;
#pragma unroll 1
    for (int k = 0; k < KC / SHARES; k += 2) {
      float2 x[T + 5];
#pragma unroll
      for (int r = 0; r < T + 5; r++) x[r] = *reinterpret_cast<const float2*>(a + r * LDA + k);
#pragma unroll
      for (int q = 0; q < 2; q++)
#pragma unroll
        for (int tap = 0; tap < T; tap++) {
          const float* from = b + (tap * KC + k + q) * LDB;
          float4 w0 = *reinterpret_cast<const float4*>(from), w1 = *reinterpret_cast<const float4*>(from + BN / 2);
#pragma unroll
          for (int r = 0; r < 6; r++) {
            float v = q ? x[r + tap].y : x[r + tap].x;
            acc[r][0] = fmaf(v, w0.x, acc[r][0]);
            acc[r][1] = fmaf(v, w0.y, acc[r][1]);
            acc[r][2] = fmaf(v, w0.z, acc[r][2]);
            acc[r][3] = fmaf(v, w0.w, acc[r][3]);
            acc[r][4] = fmaf(v, w1.x, acc[r][4]);
            acc[r][5] = fmaf(v, w1.y, acc[r][5]);
            acc[r][6] = fmaf(v, w1.z, acc[r][6]);
            acc[r][7] = fmaf(v, w1.w, acc[r][7]);
          }
        }
    }
  }

  __device__ __forceinline__ void flush() {
#pragma unroll
    for (int r = 0; r < 6; r++)
#pragma unroll
      for (int j = 0; j < 8; j++) {
        sum[r][j] += acc[r][j];
        acc[r][j] = 0.f;
      }
  }

  // The sums into a tile of rows LDT floats apart; each share's into its own.
  template <int LDT>
  __device__ __forceinline__ void spill(float* tile) const {
    float* to = tile + share() * BM * LDT + thread_of_share() / GROUPS * 6 * LDT + thread_of_share() % GROUPS * 4;
#pragma unroll
    for (int r = 0; r < 6; r++) {
      *reinterpret_cast<float4*>(to + r * LDT) = make_float4(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
      *reinterpret_cast<float4*>(to + r * LDT + BN / 2) = make_float4(sum[r][4], sum[r][5], sum[r][6], sum[r][7]);
    }
  }
};
