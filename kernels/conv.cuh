// conv.cuh: what all passes of a convolution share: rows counted through the batch, where the rows come from, how they are
// brought into shared memory.
//
// Rows of all samples are counted through, sample s from s * pitch on, so that a tile of short samples is full. The pitch is at
// least `rows + taps - 1`: the taps of a sample's last row meet no row of the next. All layouts are channels last.
#pragma once
#include "common.cuh"

constexpr int THREADS = 128;  // of a block, in every kernel of a convolution

// Division by a number that all threads share: two multiplications.
struct Divisor {
  unsigned by, inverse;
  __device__ __forceinline__ explicit Divisor(int by) : by(by), inverse(0xffffffffu / by) {}
  // 0 <= value < 2^31. The estimate is exact or one too small.
  __device__ __forceinline__ void divide(int value, int& quotient, int& rest) const {
    unsigned q = (unsigned)((unsigned long long)(unsigned)value * inverse >> 32), r = value - q * by;
    bool more = r >= by;
    quotient = q + more;
    rest = more ? r - by : r;
  }
};

__device__ __forceinline__ float4 zeros() { return make_float4(0.f, 0.f, 0.f, 0.f); }

// Four neighbouring channels, of which `left` exist; `whole`: rows are multiples of four channels.
__device__ __forceinline__ float4 load4(const float* from, int left, bool whole) {
  if (whole) return *reinterpret_cast<const float4*>(from);
  float4 v = zeros();
  if (left > 0) v.x = from[0];
  if (left > 1) v.y = from[1];
  if (left > 2) v.z = from[2];
  if (left > 3) v.w = from[3];
  return v;
}

__device__ __forceinline__ void store4(float* to, float4 v, int left, bool whole) {
  if (whole) {
    *reinterpret_cast<float4*>(to) = v;
    return;
  }
  if (left > 0) to[0] = v.x;
  if (left > 1) to[1] = v.y;
  if (left > 2) to[2] = v.z;
  if (left > 3) to[3] = v.w;
}

// Four bytes, the first channel's the lowest of the word.
__device__ __forceinline__ void store_bytes4(unsigned char* to, unsigned v, int left, bool whole) {
  if (whole) {
    *reinterpret_cast<unsigned*>(to) = v;
    return;
  }
  for (int i = 0; i < 4; i++)
    if (i < left) to[i] = (unsigned char)(v >> 8 * i);
}

// The rows that a convolution reads, [n][l][c]. What is null is left out:
//   x only            the rows themselves
//   y                 x where y > 0: a gradient x behind a ReLU
//   argmax            x is pooled, [n][cells][c], and belongs to the row of its window that the byte names; other rows are zero
//   z, coefficients   and behind batch norm, coefficients [c][3]: alpha * that + beta * z + delta
// With spread > 1, row r is row r * spread of the source and the rows between are zero.
struct Source {
  const float* x;
  const float* y;
  const unsigned char* argmax;
  const float* z;
  const float* coefficients;
  int n, l, c, window, cells, spread;

  __device__ __forceinline__ bool plain() const { return !y && !argmax && !coefficients; }

  __device__ __forceinline__ int cell(int row) const {
    return window == 1 ? row : window == 2 ? row >> 1 : window == 3 ? (int)((unsigned)row / 3u) : row >> 2;
  }

  // One channel of a row that exists.
  __device__ __forceinline__ float read1(int sample, int row, int channel) const {
    size_t at = ((size_t)sample * l + row) * c + channel;
    float v = 0.f;
    if (argmax) {
      int of = cell(row);
      size_t number = ((size_t)sample * cells + of) * c + channel;
      if (of < cells && argmax[number] == row - of * window) v = x[number];
    } else if (!y || y[at] > 0.f) {
      v = x[at];
    }
    const float* of = coefficients + 3 * channel;
    return coefficients ? fmaf(of[0], v, fmaf(of[1], z[at], of[2])) : v;
  }
};

// The parameters of an entry that make a source.
#define CONV_SOURCE                                                                                                             \
  const float *__restrict__ x, const float *__restrict__ y, const unsigned char *__restrict__ argmax, const float *__restrict__ z, \
      const float *__restrict__ coefficients, int n, int l, int c, int window, int cells, int spread

// Brings ROWS rows of CHANNELS channels into shared memory, rows LD floats apart, four channels (a quad) at a time. Row i belongs to
// row `first + i` of the batch, which is row p of a sample: it is the source's row `p * stride + offset`, and zero if that is
// outside the sample. `bring` starts copies; the caller commits, waits, and calls `finish` before the barrier: with what was copied
// `beside` the rows (argmax; a ReLU's output or a norm's rows) each thread makes a gradient of the quads that it brought itself.
template <int ROWS, int CHANNELS, int LD>
struct Stage {
  static constexpr int QUADS = CHANNELS / 4, ALL = ROWS * QUADS;
  const Source& source;
  const Divisor& pitch;
  int stride;

  // Floats beside the rows.
  __device__ __forceinline__ static int beside(const Source& source) {
    return (source.argmax ? ALL : 0) + (source.y || source.coefficients ? 4 * ALL : 0);
  }

  // The sample and row number of the source row `p * stride + offset`, if there is one.
  __device__ __forceinline__ bool locate(int at, int offset, int& sample, int& row) const {
    int p;
    pitch.divide(at, sample, p);
    row = p * stride + offset;
    bool there = sample < source.n && row >= 0;
    if (source.spread > 1) {
      there = there && row % source.spread == 0;
      row /= source.spread;
    }
    return there && row < source.l;
  }

  __device__ __forceinline__ void bring(float* to, float* beside, int first, int offset, int channel) const {
    bool plain = source.plain(), whole = source.c % 4 == 0;
#pragma unroll 1
    for (int i = threadIdx.x; i < ALL; i += THREADS) {
      int sample, row, quad = channel + i % QUADS * 4, left = source.c - quad;
      float* cell = to + i / QUADS * LD + i % QUADS * 4;
      if (!locate(first + i / QUADS, offset, sample, row) || left <= 0) {
        *reinterpret_cast<float4*>(cell) = zeros();
        continue;
      }
      size_t at = ((size_t)sample * source.l + row) * source.c + quad;
      if (!whole) {
        for (int j = 0; j < 4; j++) {
          if (j >= left)
            cell[j] = 0.f;
          else if (plain)
            cp_async4(cell + j, source.x + at + j);
          else
            cell[j] = source.read1(sample, row, quad + j);
        }
      } else if (!source.argmax) {
        cp_async16(cell, source.x + at);
        if (source.y) cp_async16(beside + 4 * i, source.y + at);
      } else {
        int of = source.cell(row);
        if (of < source.cells) {
          size_t number = ((size_t)sample * source.cells + of) * source.c + quad;
          cp_async16(cell, source.x + number);
          cp_async4(beside + i, source.argmax + number);
        } else {
          *reinterpret_cast<float4*>(cell) = zeros();
        }
        if (source.coefficients) cp_async16(beside + ALL + 4 * i, source.z + at);
      }
    }
  }

  __device__ __forceinline__ void finish(float* to, const float* beside, int first, int offset, int channel) const {
    if (source.plain() || source.c % 4 != 0) return;
#pragma unroll 1
    for (int i = threadIdx.x; i < ALL; i += THREADS) {
      int sample, row, quad = channel + i % QUADS * 4;
      if (!locate(first + i / QUADS, offset, sample, row) || quad >= source.c) continue;
      float4* cell = reinterpret_cast<float4*>(to + i / QUADS * LD + i % QUADS * 4);
      float4 v = *cell;
      int of = source.cell(row);
      if (source.argmax && of < source.cells) {
        unsigned chosen = __float_as_uint(beside[i]), phase = row - of * source.window;
        v.x = (chosen & 255) == phase ? v.x : 0.f;
        v.y = (chosen >> 8 & 255) == phase ? v.y : 0.f;
        v.z = (chosen >> 16 & 255) == phase ? v.z : 0.f;
        v.w = chosen >> 24 == phase ? v.w : 0.f;
      }
      const float4* number = reinterpret_cast<const float4*>(beside + (source.argmax ? ALL : 0) + 4 * i);
      if (source.y) {
        float4 active = *number;
        v.x = active.x > 0.f ? v.x : 0.f;
        v.y = active.y > 0.f ? v.y : 0.f;
        v.z = active.z > 0.f ? v.z : 0.f;
        v.w = active.w > 0.f ? v.w : 0.f;
      }
      if (source.coefficients) {
        float4 z = *number;
        const float4* of4 = reinterpret_cast<const float4*>(source.coefficients + 3 * quad);
        float4 a = of4[0], b = of4[1], d = of4[2];
        v.x = fmaf(a.x, v.x, fmaf(a.y, z.x, a.z));
        v.y = fmaf(a.w, v.y, fmaf(b.x, z.y, b.y));
        v.z = fmaf(b.z, v.z, fmaf(b.w, z.z, d.x));
        v.w = fmaf(d.y, v.w, fmaf(d.z, z.w, d.w));
      }
      *cell = v;
    }
  }
};

// Copies the rows of a source with one channel.
template <int ROWS>
__device__ __forceinline__ void stage_mono(float* to, const Source& source, const Divisor& pitch, int first, int offset) {
  bool copies = source.plain();
  for (int row = threadIdx.x; row < ROWS; row += THREADS) {
    int sample, p;
    pitch.divide(first + row, sample, p);
    int source_row = p + offset;
    bool there = sample < source.n && source_row >= 0 && source_row < source.l;
    if (copies && there)
      cp_async4(to + row, source.x + (size_t)sample * source.l + source_row);
    else
      to[row] = there && !copies ? source.read1(sample, source_row, 0) : 0.f;
  }
}
