// basic.cu: the ops that are a map, a selection or a short sum, the loading of batches, Adam, and the tally of a step.
//
// Tensors are `[n, l, c]` in f32, channels last. All of this is bound by memory: a map reads and writes each number once, a thread
// moves four of them (16 bytes) where addresses allow it. Sums have a fixed order in two levels. Maps may work in place: a thread
// reads all it needs of its four numbers before it writes them.
//
// Launches, which `Op::on_device` builds: `maps` are Launch::over(name, count, 4): 256 threads, four numbers a thread; others say
// it above themselves. Registers (sm_90): maps 12 to 28 and Adam 44, so that occupancy is full or nearly so; sums 26 to 48.
#include "common.cuh"

#define THREADS 256

typedef unsigned long long u64;

// ---- Four numbers at a time ---------------------------------------------------------------------------------------------------

// The numbers first .. first + 3 of a tensor, or as many of them as it has.
struct Four {
  size_t first;
  int numbers;
};

__device__ __forceinline__ Four four_of(int count) {
  Four at;
  at.first = ((size_t)blockIdx.x * THREADS + threadIdx.x) * 4;
  at.numbers = at.first < (size_t)count ? min(4, (int)((size_t)count - at.first)) : 0;
  return at;
}

__device__ __forceinline__ float4 load(const float* p, Four at) {
  p += at.first;
  if (at.numbers == 4 && on_16(p)) return *reinterpret_cast<const float4*>(p);
  float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (at.numbers > 0) v.x = p[0];
  if (at.numbers > 1) v.y = p[1];
  if (at.numbers > 2) v.z = p[2];
  if (at.numbers > 3) v.w = p[3];
  return v;
}

__device__ __forceinline__ void store(float* p, Four at, float4 v) {
  p += at.first;
  if (at.numbers == 4 && on_16(p)) {
    *reinterpret_cast<float4*>(p) = v;
    return;
  }
  if (at.numbers > 0) p[0] = v.x;
  if (at.numbers > 1) p[1] = v.y;
  if (at.numbers > 2) p[2] = v.z;
  if (at.numbers > 3) p[3] = v.w;
}

// ---- Maps ---------------------------------------------------------------------------------------------------------------------

// A NaN stays one.
__device__ __forceinline__ float rectified(float x) { return x <= 0.0f ? 0.0f : x; }

extern "C" __global__ void __launch_bounds__(THREADS) relu_forward(const float* x, float* y, int count) {
  Four at = four_of(count);
  float4 v = load(x, at);
  store(y, at, make_float4(rectified(v.x), rectified(v.y), rectified(v.z), rectified(v.w)));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    relu_backward(const float* y, const float* dy, float* dx, int count) {
  Four at = four_of(count);
  float4 v = load(y, at), g = load(dy, at);
  store(dx, at,
        make_float4(v.x > 0.0f ? g.x : 0.0f, v.y > 0.0f ? g.y : 0.0f, v.z > 0.0f ? g.z : 0.0f, v.w > 0.0f ? g.w : 0.0f));
}

// What a leaky ReLU multiplies v by.
__device__ __forceinline__ float leak(float v, float slope) { return v > 0.0f ? 1.0f : slope; }

extern "C" __global__ void __launch_bounds__(THREADS)
    leaky_relu_forward(const float* x, float* y, float slope, int count) {
  Four at = four_of(count);
  float4 v = load(x, at);
  store(y, at, make_float4(v.x * leak(v.x, slope), v.y * leak(v.y, slope), v.z * leak(v.z, slope), v.w * leak(v.w, slope)));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    leaky_relu_backward(const float* y, const float* dy, float* dx, float slope, int count) {
  Four at = four_of(count);
  float4 v = load(y, at), g = load(dy, at);
  store(dx, at, make_float4(g.x * leak(v.x, slope), g.y * leak(v.y, slope), g.z * leak(v.z, slope), g.w * leak(v.w, slope)));
}

__device__ __forceinline__ float4 sum_of(float4 a, float4 b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

extern "C" __global__ void __launch_bounds__(THREADS) add_forward(const float* a, const float* b, float* y, int count) {
  Four at = four_of(count);
  store(y, at, sum_of(load(a, at), load(b, at)));
}

// da = db = dy; either may be null, or dy itself.
extern "C" __global__ void __launch_bounds__(THREADS) add_backward(const float* dy, float* da, float* db, int count) {
  Four at = four_of(count);
  float4 g = load(dy, at);
  if (da != nullptr && da != dy) store(da, at, g);
  if (db != nullptr && db != dy) store(db, at, g);
}

extern "C" __global__ void __launch_bounds__(THREADS) add_to(float* to, const float* from, int count) {
  Four at = four_of(count);
  store(to, at, sum_of(load(to, at), load(from, at)));
}

extern "C" __global__ void __launch_bounds__(THREADS) copy(const float* from, float* to, int count) {
  if (from == to) return;
  Four at = four_of(count);
  store(to, at, load(from, at));
}

extern "C" __global__ void __launch_bounds__(THREADS) fill(float* to, float value, int count) {
  store(to, four_of(count), make_float4(value, value, value, value));
}

// ---- Dropout ------------------------------------------------------------------------------------------------------------------
// The hash of src/base/rng.rs; masks are those of the CPU.

__device__ __forceinline__ u64 mix(u64 z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// `x * scale` where the number is kept, else 0: forward on x, backward on dy. The key of the step is narrowed by the node.
extern "C" __global__ void __launch_bounds__(THREADS)
    dropout(const float* x, float* y, const u64* draw, int node, int threshold, float scale, int count) {
  const u64 odd = 0x9e3779b97f4a7c15ull;
  u64 key = mix(*draw ^ ((u64)node + 1) * odd);
  Four at = four_of(count);
  float4 v = load(x, at);
  float numbers[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    uint32_t bits = (uint32_t)(mix(key + ((u64)at.first + (u64)i + 1) * odd) >> 32);
    numbers[i] = bits >= (uint32_t)threshold ? numbers[i] * scale : 0.0f;
  }
  store(y, at, make_float4(numbers[0], numbers[1], numbers[2], numbers[3]));
}

// ---- Max pool -----------------------------------------------------------------------------------------------------------------
// A thread has a row's column of four channels (of one, where c is no multiple of four); blocks = ceil(threads / 256).
// `argmax` has a byte per output, [n, l_out, c]. The first of equal numbers wins; a NaN wins over every number.

// The row (of all rows of all samples) and first channel of a thread; past the last row, none.
struct Cell {
  unsigned row;
  int channel;
};

template <int WIDTH>
__device__ __forceinline__ Cell cell_of(int c) {
  unsigned thread = blockIdx.x * THREADS + threadIdx.x;
  unsigned columns = (unsigned)c / WIDTH;
  Cell at = {thread / columns, (int)(thread % columns) * WIDTH};
  return at;
}

template <int WIDTH>
__device__ __forceinline__ void pool_forward(const float* __restrict__ x, float* __restrict__ y,
                                             unsigned char* __restrict__ argmax, int n, int l, int c, int l_out, int k,
                                             int stride) {
  Cell at = cell_of<WIDTH>(c);
  if (at.row >= (unsigned)n * (unsigned)l_out) return;
  bool vectors = on_16(x) && on_16(y);
  int sample = (int)(at.row / (unsigned)l_out);
  int first = (int)(at.row % (unsigned)l_out) * stride;
  const float* from = x + ((size_t)sample * l + first) * c + at.channel;
  int rows = min(k, l - first);
  float best[WIDTH];
  int index[WIDTH];
  load_wide(best, from, vectors);
#pragma unroll
  for (int i = 0; i < WIDTH; i++) index[i] = 0;
#pragma unroll 2
  for (int t = 1; t < rows; t++) {
    float v[WIDTH];
    load_wide(v, from + (size_t)t * c, vectors);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
      bool take = v[i] > best[i] || v[i] != v[i];
      best[i] = take ? v[i] : best[i];
      index[i] = take ? t : index[i];
    }
  }
  size_t cell = (size_t)at.row * c + at.channel;
  store_wide(y + cell, best, vectors);
  if (argmax == nullptr) return;
  if (WIDTH == 4 && ((size_t)argmax & 3) == 0) {
    *reinterpret_cast<uint32_t*>(argmax + cell) = (uint32_t)index[0] | (uint32_t)index[1 % WIDTH] << 8 |
                                                    (uint32_t)index[2 % WIDTH] << 16 | (uint32_t)index[3 % WIDTH] << 24;
    return;
  }
#pragma unroll
  for (int i = 0; i < WIDTH; i++) argmax[cell + i] = (unsigned char)index[i];
}

extern "C" __global__ void __launch_bounds__(THREADS)
    max_pool1d_forward(const float* __restrict__ x, float* __restrict__ y, unsigned char* __restrict__ argmax, int n, int l,
                       int c, int l_out, int k, int stride) {
  if (c % 4 == 0) {
    pool_forward<4>(x, y, argmax, n, l, c, l_out, k, stride);
  } else {
    pool_forward<1>(x, y, argmax, n, l, c, l_out, k, stride);
  }
}

// dx of every row: the sum over the windows that contain it, in their order, where it was chosen.
template <int WIDTH>
__device__ __forceinline__ void pool_backward(const float* __restrict__ dy, const unsigned char* __restrict__ argmax,
                                              float* __restrict__ dx, int n, int l, int c, int l_out, int k, int stride) {
  Cell at = cell_of<WIDTH>(c);
  if (at.row >= (unsigned)n * (unsigned)l) return;
  bool vectors = on_16(dy) && on_16(dx);
  bool words = WIDTH == 4 && ((size_t)argmax & 3) == 0;
  int sample = (int)(at.row / (unsigned)l);
  int row = (int)(at.row % (unsigned)l);
  int first = row < k ? 0 : (row - k) / stride + 1;
  int last = min(row / stride, l_out - 1);
  float sum[WIDTH];
#pragma unroll
  for (int i = 0; i < WIDTH; i++) sum[i] = 0.0f;
  for (int window = first; window <= last; window++) {
    size_t cell = ((size_t)sample * l_out + window) * c + at.channel;
    float g[WIDTH];
    load_wide(g, dy + cell, vectors);
    uint32_t indices = 0;
    if (words) {
      indices = *reinterpret_cast<const uint32_t*>(argmax + cell);
    } else {
#pragma unroll
      for (int i = 0; i < WIDTH; i++) indices |= (uint32_t)argmax[cell + i] << (8 * i);
    }
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
      if ((int)(indices >> (8 * i) & 255u) == row - window * stride) sum[i] += g[i];
    }
  }
  store_wide(dx + (size_t)at.row * c + at.channel, sum, vectors);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    max_pool1d_backward(const float* __restrict__ dy, const unsigned char* __restrict__ argmax, float* __restrict__ dx,
                        int n, int l, int c, int l_out, int k, int stride) {
  if (c % 4 == 0) {
    pool_backward<4>(dy, argmax, dx, n, l, c, l_out, k, stride);
  } else {
    pool_backward<1>(dy, argmax, dx, n, l, c, l_out, k, stride);
  }
}

// ---- Average over time --------------------------------------------------------------------------------------------------------

// The sum of the block's values, thread t adding t + half: to all threads. `tile` holds a value a thread.
template <typename T>
__device__ __forceinline__ T over_block(T value, T* tile, int apart) {
  int t = threadIdx.x;
  __syncthreads();
  tile[t] = value;
  __syncthreads();
  for (int half = (int)blockDim.x / 2; half >= apart; half /= 2) {
    if (t < half) tile[t] += tile[t + half];
    __syncthreads();
  }
  return tile[t % apart];
}

// 256 threads: 32 channels by 8 rows; blocks = n * ceil(c / 32). Sums of 64 rows, then their sum, then over the eight.
extern "C" __global__ void __launch_bounds__(THREADS)
    avg_pool_forward(const float* __restrict__ x, float* __restrict__ y, int n, int l, int c) {
  __shared__ float tile[THREADS];
  int wide = (c + 31) / 32;
  int sample = (int)blockIdx.x / wide;
  if (sample >= n) return;
  int j = ((int)blockIdx.x % wide) * 32 + (int)threadIdx.x % 32;
  float sum = 0.0f;
  if (j < c) {
    const float* from = x + (size_t)sample * l * c + j;
    for (int chunk = (int)threadIdx.x / 32; chunk < l; chunk += 8 * 64) {
      float part = 0.0f;
#pragma unroll 8
      for (int i = 0; i < 64; i++) {
        int row = chunk + 8 * i;
        if (row < l) part += from[(size_t)row * c];
      }
      sum += part;
    }
  }
  sum = over_block(sum, tile, 32);
  if (threadIdx.x < 32 && j < c) y[(size_t)sample * c + j] = sum / (float)l;
}

// A map over dx: 256 threads, four numbers a thread.
extern "C" __global__ void __launch_bounds__(THREADS)
    avg_pool_backward(const float* __restrict__ dy, float* __restrict__ dx, int n, int l, int c) {
  Four at = four_of(n * l * c);
  if (at.numbers == 0) return;
  unsigned row = (unsigned)at.first / (unsigned)c;
  int j = (int)((unsigned)at.first % (unsigned)c);
  float g[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    g[i] = i < at.numbers ? dy[(size_t)(row / (unsigned)l) * c + j] / (float)l : 0.0f;
    if (++j == c) j = 0, row++;
  }
  store(dx, at, make_float4(g[0], g[1], g[2], g[3]));
}

// ---- Weighted sum -------------------------------------------------------------------------------------------------------------

// A block of 256 a sample. Products in f32, 16 of them to a sum, the rest in f64.
extern "C" __global__ void __launch_bounds__(THREADS)
    weighted_sum_forward(const float* __restrict__ x, const float* __restrict__ w, float* __restrict__ y, int size) {
  __shared__ double tile[THREADS];
  const float* a = x + (size_t)blockIdx.x * size;
  const float* b = w + (size_t)blockIdx.x * size;
  double sum = 0.0;
  for (int chunk = (int)threadIdx.x; chunk < size; chunk += 16 * THREADS) {
    float part = 0.0f;
#pragma unroll
    for (int i = 0; i < 16; i++) {
      int at = chunk + i * THREADS;
      if (at < size) part += a[at] * b[at];
    }
    sum += (double)part;
  }
  sum = over_block(sum, tile, 1);
  if (threadIdx.x == 0) y[blockIdx.x] = (float)sum;
}

// dx = w dy, dw = x dy; either may be null. 256 threads, a number a thread.
extern "C" __global__ void __launch_bounds__(THREADS)
    weighted_sum_backward(const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ dy,
                          float* __restrict__ dx, float* __restrict__ dw, int n, int size) {
  unsigned at = blockIdx.x * THREADS + threadIdx.x;
  if (at >= (unsigned)n * (unsigned)size) return;
  float g = dy[at / (unsigned)size];
  if (dx != nullptr) dx[at] = w[at] * g;
  if (dw != nullptr) dw[at] = x[at] * g;
}

// ---- Loss ---------------------------------------------------------------------------------------------------------------------

// The class that a label names, or -1.
__device__ __forceinline__ int class_of(float label, int classes) {
  bool named = label >= 0.0f && label < (float)classes && floorf(label) == label;
  return named ? (int)label : -1;
}

// The share of class j in the target: of a class number (label_size is 1) or of a distribution, smoothed.
__device__ __forceinline__ double share_of(const float* label, int label_size, int class_number, int j, double kept,
                                           double spread) {
  double share = label_size == 1 ? (j == class_number ? 1.0 : 0.0) : (double)label[j];
  return kept * share + spread;
}

// A block of 32 a sample; exponentials in f64. Saves softmax(x)[j] sum(q) - q[j] with the target q; `saved` may be null. A label of
// one number is a class number, else it has the share of each class. A label that is neither a class number nor a distribution, a NaN
// and an infinite largest logit give NaN. Without smoothing, sums of a class number add zeros to one term: they do not round.
extern "C" __global__ void __launch_bounds__(32)
    softmax_cross_entropy_forward(const float* __restrict__ logits, const float* __restrict__ labels, float* __restrict__ y,
                                  float* __restrict__ saved, int n, int classes, int label_size, float smoothing) {
  __shared__ double tile[32];
  const int t = threadIdx.x;
  const int sample = blockIdx.x;
  if (sample >= n) return;
  const float* x = logits + (size_t)sample * classes;
  const float infinity = __int_as_float(0x7f800000), no_number = __int_as_float(0x7fc00000);
  float own = -infinity;
  for (int j = t; j < classes; j += 32) own = fmaxf(own, x[j]);
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) own = fmaxf(own, __shfl_xor_sync(0xffffffffu, own, lane));
  const double largest = own;
  double sum = 0.0;
  for (int j = t; j < classes; j += 32) sum += exp((double)x[j] - largest);
  sum = over_block(sum, tile, 1);
  const float* label = labels + (size_t)sample * label_size;
  const double kept = 1.0 - (double)smoothing, spread = (double)smoothing / (double)classes;
  const int class_number = label_size == 1 ? class_of(label[0], classes) : -1;
  bool valid = class_number >= 0;
  double total = 1.0;
  if (label_size != 1) {
    double shares = 0.0;
    for (int j = t; j < classes; j += 32) shares += label[j] >= 0.0f ? (double)label[j] : (double)no_number;
    shares = over_block(shares, tile, 1);
    valid = fabs(shares - 1.0) <= 1e-3;
    total = kept * shares + (double)smoothing;
  }
  const double log_sum = log(sum);
  double loss = 0.0;
  for (int j = t; j < classes; j += 32) {
    double q = share_of(label, label_size, class_number, j, kept, spread);
    if (q != 0.0) loss += q * (largest - (double)x[j] + log_sum);
  }
  loss = over_block(loss, tile, 1);
  if (t == 0) y[sample] = valid ? (float)loss : no_number;
  if (saved == nullptr) return;
  for (int j = t; j < classes; j += 32) {
    double p = exp((double)x[j] - largest) / sum;
    double q = share_of(label, label_size, class_number, j, kept, spread);
    saved[(size_t)sample * classes + j] = valid ? (float)(p * total - q) : no_number;
  }
}

// 256 threads, a number a thread.
extern "C" __global__ void __launch_bounds__(THREADS)
    softmax_cross_entropy_backward(const float* __restrict__ saved, const float* __restrict__ dy, float* __restrict__ dx,
                                   int n, int classes) {
  unsigned at = blockIdx.x * THREADS + threadIdx.x;
  if (at >= (unsigned)n * (unsigned)classes) return;
  dx[at] = saved[at] * dy[at / (unsigned)classes];
}

// The index of the largest of some numbers, the first of equals.
__device__ __forceinline__ int index_of_largest(const float* x, int count) {
  int best = 0;
  float largest = x[0];
  for (int j = 1; j < count; j++) {
    if (x[j] > largest) largest = x[j], best = j;
  }
  return best;
}

// Of a batch, to the pair of `tallies` that `pair` tells: the sum of its losses, and how many of its largest logits (the first of
// equals) are at the label, or at the largest share of a label with `label_size` shares. `tallies[0]`, from before the pairs, is no longer zero once a loss was no number. One block of 256.
extern "C" __global__ void __launch_bounds__(THREADS)
    tally(const float* __restrict__ loss, const float* __restrict__ logits, const float* __restrict__ labels,
          const unsigned* __restrict__ pair, float* __restrict__ tallies, int n, int classes, int label_size) {
  __shared__ float tile[THREADS];
  float sum = 0.0f, correct = 0.0f;
  for (int sample = (int)threadIdx.x; sample < n; sample += THREADS) {
    sum += loss[sample];
    const float* label = labels + (size_t)sample * label_size;
    int wanted = label[0] > 0.0f ? (label[0] < (float)classes ? (int)label[0] : classes) : 0;
    if (label_size != 1) wanted = index_of_largest(label, label_size);
    if (index_of_largest(logits + (size_t)sample * classes, classes) == wanted) correct += 1.0f;
  }
  sum = over_block(sum, tile, 1);
  correct = over_block(correct, tile, 1);
  if (threadIdx.x == 0) {
    if (!(fabsf(sum) <= 3.402823466e38f)) tallies[0] = 1.0f;
    tallies[2 + 2 * pair[0]] = sum;
    tallies[3 + 2 * pair[0]] = correct;
  }
}

// ---- Batches ------------------------------------------------------------------------------------------------------------------

// Row s of x is clip `order[s]` (clip s without an order) times `factor`; zeros where that is negative. The factor is a power of two.
// Blocks = n * ceil(length / 1,024): 256 threads, four numbers a thread.
extern "C" __global__ void __launch_bounds__(THREADS)
    clips_to_f32(const short* __restrict__ clips, const int* __restrict__ order_or_null, float* __restrict__ x, int n,
                 int length, float factor) {
  int wide = (length + 4 * THREADS - 1) / (4 * THREADS);
  int sample = (int)blockIdx.x / wide;
  int first = (((int)blockIdx.x % wide) * THREADS + (int)threadIdx.x) * 4;
  if (sample >= n || first >= length) return;
  int clip = order_or_null != nullptr ? order_or_null[sample] : sample;
  const short* from = clips + (size_t)max(clip, 0) * length + first;
  float* to = x + (size_t)sample * length + first;
  if (first + 4 <= length && ((size_t)from & 7) == 0 && on_16(to)) {
    short4 v = make_short4(0, 0, 0, 0);
    if (clip >= 0) v = *reinterpret_cast<const short4*>(from);
    *reinterpret_cast<float4*>(to) =
        make_float4((float)v.x * factor, (float)v.y * factor, (float)v.z * factor, (float)v.w * factor);
    return;
  }
  for (int i = 0; i < min(4, length - first); i++) to[i] = clip >= 0 ? (float)from[i] * factor : 0.0f;
}

// ---- Adam ---------------------------------------------------------------------------------------------------------------------

// What changes from step to step: beta1, beta2, eps, step_size, root_scale, decay, clip_norm, average.
#define RATES 8

__device__ __forceinline__ void read_rates(float (&to)[RATES], const float* rates) {
#pragma unroll
  for (int i = 0; i < RATES; i++) to[i] = rates[i];
}

// One number, rounded where src/optim/adam.rs rounds: no contraction.
__device__ __forceinline__ void adam_step(float& w, float& m, float& v, float g, const float (&rates)[RATES]) {
  float beta1 = rates[0], beta2 = rates[1], eps = rates[2], step_size = rates[3], root_scale = rates[4];
  m = __fadd_rn(m, __fmul_rn(__fsub_rn(1.0f, beta1), __fsub_rn(g, m)));
  v = __fadd_rn(__fmul_rn(beta2, v), __fmul_rn(__fsub_rn(1.0f, beta2), __fmul_rn(g, g)));
  float root = __fadd_rn(__fmul_rn(__fsqrt_rn(v), root_scale), eps);
  w = __fsub_rn(w, __fdiv_rn(__fmul_rn(step_size, m), root));
}

// `rates` are those of the step, `tallies` what the kernel tally left. A map: four numbers a thread; 28 bytes a number.
extern "C" __global__ void __launch_bounds__(THREADS)
    adam(float* __restrict__ w, float* __restrict__ m, float* __restrict__ v, const float* __restrict__ gradient,
         const float* __restrict__ rates, const float* __restrict__ tallies, int count) {
  Four at = four_of(count);
  // A loss that is no number ends the run; the weights it came from are kept to be looked at, also by steps already under way.
  if (at.numbers == 0 || tallies[0] != 0.0f) return;
  float r[RATES];
  read_rates(r, rates);
  float4 weights = load(w, at), first = load(m, at), second = load(v, at), g = load(gradient, at);
  adam_step(weights.x, first.x, second.x, g.x, r);
  adam_step(weights.y, first.y, second.y, g.y, r);
  adam_step(weights.z, first.z, second.z, g.z, r);
  adam_step(weights.w, first.w, second.w, g.w, r);
  store(m, at, first);
  store(v, at, second);
  store(w, at, weights);
}

// Numbers of a gradient whose squares a block sums: as in src/optim/adam.rs.
#define CHUNK 16384

// To `sums`, a number of f64 a chunk: the sum of the squares of the gradient. Blocks = ceil(count / CHUNK); a thread has every 256th.
extern "C" __global__ void __launch_bounds__(THREADS)
    sum_of_squares(const float* __restrict__ gradient, double* __restrict__ sums, int count) {
  __shared__ double tile[THREADS];
  const size_t first = (size_t)blockIdx.x * CHUNK + threadIdx.x;
  double sum = 0.0;
#pragma unroll 8
  for (int i = 0; i < CHUNK / THREADS; i++) {
    size_t at = first + (size_t)i * THREADS;
    if (at < (size_t)count) sum += (double)gradient[at] * (double)gradient[at];
  }
  sum = over_block(sum, tile, 1);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// To `scale`: what the gradient is multiplied by, so that its norm is at most clip_norm. One block of 256.
extern "C" __global__ void __launch_bounds__(THREADS)
    clip_scale(const double* __restrict__ sums, const float* __restrict__ rates, float* __restrict__ scale, int chunks) {
  __shared__ double tile[THREADS];
  double sum = 0.0;
  for (int i = (int)threadIdx.x; i < chunks; i += THREADS) sum += sums[i];
  sum = over_block(sum, tile, 1);
  double limit = (double)rates[6] / (sqrt(sum) + 1e-6);
  // A NaN is not turned into 1.
  if (threadIdx.x == 0) scale[0] = limit >= 1.0 ? 1.0f : (float)limit;
}

// As adam; before it, the gradient is multiplied by `scale`, if there is one, and parameters whose number in `decays` is not 0, if there are
// such, by decay.
extern "C" __global__ void __launch_bounds__(THREADS)
    adamw(float* __restrict__ w, float* __restrict__ m, float* __restrict__ v, const float* __restrict__ gradient,
          const unsigned char* __restrict__ decays_or_null, const float* __restrict__ scale_or_null,
          const float* __restrict__ rates, const float* __restrict__ tallies, int count) {
  Four at = four_of(count);
  if (at.numbers == 0 || tallies[0] != 0.0f) return;
  float r[RATES];
  read_rates(r, rates);
  float4 first = load(m, at), second = load(v, at), weights = load(w, at), g = load(gradient, at);
  float numbers[4] = {weights.x, weights.y, weights.z, weights.w};
  float slopes[4] = {g.x, g.y, g.z, g.w}, means[4] = {first.x, first.y, first.z, first.w};
  float squares[4] = {second.x, second.y, second.z, second.w};
  float scale = scale_or_null != nullptr ? scale_or_null[0] : 1.0f;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    bool decays = decays_or_null != nullptr && i < at.numbers && decays_or_null[at.first + i] != 0;
    if (decays) numbers[i] = __fmul_rn(numbers[i], r[5]);
    adam_step(numbers[i], means[i], squares[i], __fmul_rn(slopes[i], scale), r);
  }
  store(m, at, make_float4(means[0], means[1], means[2], means[3]));
  store(v, at, make_float4(squares[0], squares[1], squares[2], squares[3]));
  store(w, at, make_float4(numbers[0], numbers[1], numbers[2], numbers[3]));
}

// The moving average of weights, rounded where src/optim/average.rs rounds. A map: four numbers a thread; 12 bytes a number.
__device__ __forceinline__ float averaged(float average, float w, float rate) {
  return __fadd_rn(average, __fmul_rn(rate, __fsub_rn(w, average)));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    average(float* __restrict__ averages, const float* __restrict__ w, const float* __restrict__ rates,
            const float* __restrict__ tallies, int count) {
  Four at = four_of(count);
  if (at.numbers == 0 || tallies[0] != 0.0f) return;
  float rate = rates[7];
  float4 a = load(averages, at), b = load(w, at);
  store(averages, at,
        make_float4(averaged(a.x, b.x, rate), averaged(a.y, b.y, rate), averaged(a.z, b.z, rate), averaged(a.w, b.w, rate)));
}
