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

// Four bytes in a word, the first channel's lowest.
__device__ __forceinline__ unsigned load_bytes4(const unsigned char* from, int left, bool whole) {
  if (whole) return *reinterpret_cast<const unsigned*>(from);
  unsigned v = 0;
  for (int i = 0; i < 4; i++)
    if (i < left) v |= (unsigned)from[i] << 8 * i;
  return v;
}

__device__ __forceinline__ void store_bytes4(unsigned char* to, unsigned v, int left, bool whole) {
  if (whole) {
    *reinterpret_cast<unsigned*>(to) = v;
    return;
  }
  for (int i = 0; i < 4; i++)
    if (i < left) to[i] = (unsigned char)(v >> 8 * i);
}

// The rows that a convolution reads, [n][l][c]. What is null is left out:
//   x alone           the rows themselves
//   y                 x where y > 0: a gradient x behind a ReLU
//   position          x is pooled, [n][cells][c], and belongs to the row of its window that the byte names; other rows are zero
//   z, coefficients   and behind batch norm, coefficients [c][3]: alpha * that + beta * z + delta
// With spread > 1, row r stands at place r * spread and the places between are zero.
struct Source {
  const float* x;
  const float* y;
  const unsigned char* position;
  const float* z;
  const float* coefficients;
  int n, l, c, window, cells, spread;

  __device__ __forceinline__ bool plain() const { return !y && !position && !coefficients; }

  __device__ __forceinline__ int cell(int row) const {
    return window == 1 ? row : window == 2 ? row >> 1 : window == 3 ? (int)((unsigned)row / 3u) : row >> 2;
  }

  // One channel of a row that exists.
  __device__ __forceinline__ float read1(int sample, int row, int channel) const {
    size_t at = ((size_t)sample * l + row) * c + channel;
    float v = 0.f;
    if (position) {
      int of = cell(row);
      size_t number = ((size_t)sample * cells + of) * c + channel;
      if (of < cells && position[number] == row - of * window) v = x[number];
    } else if (!y || y[at] > 0.f) {
      v = x[at];
    }
    const float* of = coefficients + 3 * channel;
    return coefficients ? fmaf(of[0], v, fmaf(of[1], z[at], of[2])) : v;
  }

  // Channels `channel` .. + 3 of a row that exists.
  __device__ __forceinline__ float4 read(int sample, int row, int channel) const {
    bool whole = c % 4 == 0;
    int left = c - channel;
    if (left <= 0) return zeros();
    size_t at = ((size_t)sample * l + row) * c + channel;
    float4 v = zeros();
    if (position) {
      int of = cell(row), phase = row - of * window;
      if (of < cells) {
        size_t number = ((size_t)sample * cells + of) * c + channel;
        v = load4(x + number, left, whole);
        unsigned chosen = load_bytes4(position + number, left, whole);
        v.x = (int)(chosen & 255) == phase ? v.x : 0.f;
        v.y = (int)(chosen >> 8 & 255) == phase ? v.y : 0.f;
        v.z = (int)(chosen >> 16 & 255) == phase ? v.z : 0.f;
        v.w = (int)(chosen >> 24) == phase ? v.w : 0.f;
      }
    } else {
      v = load4(x + at, left, whole);
      if (y) {
        float4 active = load4(y + at, left, whole);
        v.x = active.x > 0.f ? v.x : 0.f;
        v.y = active.y > 0.f ? v.y : 0.f;
        v.z = active.z > 0.f ? v.z : 0.f;
        v.w = active.w > 0.f ? v.w : 0.f;
      }
    }
    if (coefficients) {
      float4 raw = load4(z + at, left, whole);
      const float* of = coefficients + 3 * channel;
      v.x = fmaf(of[0], v.x, fmaf(of[1], raw.x, of[2]));
      if (left > 1) v.y = fmaf(of[3], v.y, fmaf(of[4], raw.y, of[5]));
      if (left > 2) v.z = fmaf(of[6], v.z, fmaf(of[7], raw.z, of[8]));
      if (left > 3) v.w = fmaf(of[9], v.w, fmaf(of[10], raw.w, of[11]));
    }
    return v;
  }
};

// The parameters of an entry that make a source.
#define CONV_SOURCE                                                                                                             \
  const float *__restrict__ x, const float *__restrict__ y, const unsigned char *__restrict__ position, const float *__restrict__ z, \
      const float *__restrict__ coefficients, int n, int l, int c, int window, int cells, int spread

// Brings ROWS rows of CHANNELS channels into `to`, rows LD floats apart. Row i belongs to row `first + i` of the batch, which is
// row p of a sample: it is the source's place `p * stride + offset`, and zero if that is outside the sample.
// Copies may be in flight afterwards: the caller commits and waits.
template <int ROWS, int CHANNELS, int LD>
__device__ __forceinline__ void stage_rows(float* to, const Source& source, const Divisor& pitch, int first, int stride, int offset,
                                           int channel) {
  constexpr int QUADS = CHANNELS / 4;
  bool copies = source.plain() && source.c % 4 == 0;
  for (int i = threadIdx.x; i < ROWS * QUADS; i += THREADS) {
    int row = i / QUADS, quad = i % QUADS * 4, sample, p;
    pitch.divide(first + row, sample, p);
    int place = p * stride + offset;
    bool there = sample < source.n && place >= 0;
    if (source.spread > 1) {
      there = there && place % source.spread == 0;
      place /= source.spread;
    }
    there = there && place < source.l;
    float* cell = to + row * LD + quad;
    if (copies && there && channel + quad < source.c)
      cp_async16(cell, source.x + ((size_t)sample * source.l + place) * source.c + channel + quad);
    else
      *reinterpret_cast<float4*>(cell) = there && !copies ? source.read(sample, place, channel + quad) : zeros();
  }
}

// The same for a source of one channel.
template <int ROWS>
__device__ __forceinline__ void stage_single(float* to, const Source& source, const Divisor& pitch, int first, int offset) {
  bool copies = source.plain();
  for (int row = threadIdx.x; row < ROWS; row += THREADS) {
    int sample, p;
    pitch.divide(first + row, sample, p);
    int place = p + offset;
    bool there = sample < source.n && place >= 0 && place < source.l;
    if (copies && there)
      cp_async4(to + row, source.x + (size_t)sample * source.l + place);
    else
      to[row] = there && !copies ? source.read1(sample, place, 0) : 0.f;
  }
}
