// norm.cu: batch norm. The op by itself (`norm_statistics` to `norm_scale`), and what the fused block of convolution, norm, ReLU
// and pool needs beside its own kernels (`norm_pool_*`, `norm_running_affine`); both share the two merges.
//
// Tensors are `[rows, c]`, channels last: all rows of all samples, or for a norm of features a row a sample and `l * c` channels.
// moments       [c][2]  mean, 1 / sqrt(variance + eps)
// affine        [c][2]  factor, offset: y = factor z + offset
// coefficients  [c][3]  alpha, beta, delta: dz = alpha g + beta z + delta
// partials      [pieces][c][2]  mean and sum of squares around it, or the two sums of the gradient; they begin on 8 bytes
//
// Training forward is norm_statistics (one read: a thread keeps its 16 numbers in registers for the second look), norm_merge
// (Chan's formula), norm_apply (one read, one write). Backward is norm_gradient_sums (two reads), norm_gradient_merge,
// norm_gradient_apply (two reads, one write). A mean is taken off before anything is squared or multiplied, so that one far from
// zero spoils nothing. Sums have two levels and a fixed order. Everything here is bound by memory.
//
// Launches, which src/ops/batch_norm/device.rs builds:
// * `sums` (norm_statistics, norm_gradient_sums, norm_pool_gradient_sums): 256 threads; `lanes` neighbouring channels (32, or the
//   next power of two of fewer) by 256 / lanes rows; blocks = pieces * ceil(c / lanes), the channels running faster.
// * `merges` (norm_merge, norm_gradient_merge): 1,024 threads, four channels (a sector of partials) by 256 rows; ceil(c / 4) blocks.
// * `maps` (norm_apply, norm_gradient_apply, norm_scale, norm_pool_apply): 256 threads; a thread has one column of four channels
//   (of one, where c is no multiple of four) and eight rows, so that it loads the channels' numbers once; `lanes` columns by
//   256 / lanes rows by 8; blocks = ceil(rows / (8 * 256 / lanes)) * ceil(columns / lanes).
// * `channels` (norm_running_affine, norm_running_moments): a thread a channel.
//
// Registers (sm_90): statistics 58, gradient sums 32, merges 51 and 32 (one or two blocks of 1,024 an SM), maps 40 to 54: at least
// four blocks of 256 an SM.
#include "common.cuh"

#define SUM_THREADS 256
#define SUM_ROWS 16
#define MERGE_THREADS 1024
#define MERGE_CHANNELS 4
#define MERGE_CHUNK 8
#define MAP_ROWS 8

// The channels or columns side by side in a block: all of them up to the next power of two, 32 at most.
__device__ __forceinline__ int lanes_of(int columns) {
  int lanes = 32;
  while (lanes / 2 >= columns) lanes /= 2;
  return lanes;
}

// ---- Sums over rows -----------------------------------------------------------------------------------------------------------

// Where a thread of a `sums` block stands.
struct Sums {
  int lanes, groups, group, piece, channel;
};

__device__ __forceinline__ Sums sums_of(int c) {
  Sums at;
  at.lanes = lanes_of(c);
  at.groups = SUM_THREADS / at.lanes;
  int wide = (c + at.lanes - 1) / at.lanes;
  at.piece = (int)blockIdx.x / wide;
  at.channel = ((int)blockIdx.x % wide) * at.lanes + (int)threadIdx.x % at.lanes;
  at.group = (int)threadIdx.x / at.lanes;
  return at;
}

// The sum of `value` over the rows of a block, a channel: every thread gets that of its channel.
__device__ __forceinline__ float over_rows(float value, int lanes, float* tile) {
  int t = threadIdx.x;
  __syncthreads();
  tile[t] = value;
  __syncthreads();
  for (int half = SUM_THREADS / 2; half >= lanes; half /= 2) {
    if (t < half) tile[t] += tile[t + half];
    __syncthreads();
  }
  return tile[t % lanes];
}

// Mean and sum of squares around it of every piece of 16 * (256 / lanes) rows.
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    norm_statistics(const float* __restrict__ x, float* __restrict__ partials, int rows, int c) {
  __shared__ float tile[SUM_THREADS];
  Sums at = sums_of(c);
  int first = at.piece * SUM_ROWS * at.groups;
  bool there = at.channel < c;
  float numbers[SUM_ROWS];
#pragma unroll
  for (int i = 0; i < SUM_ROWS; i++) {
    int row = first + i * at.groups + at.group;
    numbers[i] = there && row < rows ? x[(size_t)row * c + at.channel] : 0.0f;
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < SUM_ROWS; i++) sum += numbers[i];
  int count = min(rows - first, SUM_ROWS * at.groups);
  float mean = over_rows(sum, at.lanes, tile) / (float)count;
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < SUM_ROWS; i++) {
    float deviation = numbers[i] - mean;
    if (first + i * at.groups + at.group < rows) squares += deviation * deviation;
  }
  squares = over_rows(squares, at.lanes, tile);
  if (at.group == 0 && there) {
    float* to = partials + ((size_t)at.piece * c + at.channel) * 2;
    to[0] = mean;
    to[1] = squares;
  }
}

// The sums of g and of g xhat over a piece, where xhat = (z - mean) / std. Windows whose argmax is 7 have no gradient.
__device__ __forceinline__ void gradient_sums(const float* __restrict__ dy, const unsigned char* __restrict__ argmax,
                                              const float* __restrict__ z, const float* __restrict__ moments,
                                              float* __restrict__ partials, int rows, int c, int piece_rows) {
  __shared__ float tile[SUM_THREADS];
  Sums at = sums_of(c);
  int first = at.piece * piece_rows;
  int end = min(rows - first, piece_rows) + first;
  bool there = at.channel < c;
  float mean = there ? moments[2 * (size_t)at.channel] : 0.0f;
  float sum = 0.0f, product = 0.0f;
  if (there) {
    for (int chunk = first + at.group; chunk < end; chunk += 8 * at.groups) {
      float g[8], deviation[8];
#pragma unroll
      for (int i = 0; i < 8; i++) {
        int row = chunk + i * at.groups;
        size_t cell = (size_t)(row < end ? row : chunk) * c + at.channel;
        g[i] = row < end ? dy[cell] : 0.0f;
        deviation[i] = z[cell] - mean;
        if (argmax != nullptr) g[i] = argmax[cell] == 7 ? 0.0f : g[i];
      }
      float part = 0.0f, part_product = 0.0f;
#pragma unroll
      for (int i = 0; i < 8; i++) {
        part += g[i];
        part_product += g[i] * deviation[i];
      }
      sum += part;
      product += part_product;
    }
  }
  sum = over_rows(sum, at.lanes, tile);
  product = over_rows(product, at.lanes, tile);
  if (at.group == 0 && there) {
    float* to = partials + ((size_t)at.piece * c + at.channel) * 2;
    to[0] = sum;
    to[1] = product * moments[2 * (size_t)at.channel + 1];
  }
}

extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    norm_gradient_sums(const float* __restrict__ x, const float* __restrict__ dy, const float* __restrict__ moments,
                       float* __restrict__ partials, int rows, int c, int piece_rows) {
  gradient_sums(dy, nullptr, x, moments, partials, rows, c, piece_rows);
}

extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    norm_pool_gradient_sums(const float* __restrict__ dy, const unsigned char* __restrict__ argmax,
                            const float* __restrict__ pooled_z, const float* __restrict__ moments,
                            float* __restrict__ partials, int cells, int c, int piece_cells) {
  gradient_sums(dy, argmax, pooled_z, moments, partials, cells, c, piece_cells);
}

// ---- Merges -------------------------------------------------------------------------------------------------------------------

// Numbers seen, their mean, and the sum of their squares around it.
struct Seen {
  float count, mean, squares;
};

// Chan's formula.
__device__ __forceinline__ Seen together(Seen a, Seen b) {
  float share = b.count > 0.0f ? b.count / (a.count + b.count) : 0.0f;
  float delta = b.mean - a.mean;
  if (b.count == 0.0f) delta = 0.0f;
  return {a.count + b.count, a.mean + delta * share, a.squares + (b.squares + delta * delta * (a.count * share))};
}

// Piece j of a sample covers its rows j * piece_rows .. min(l, (j + 1) * piece_rows). `affine` and the running statistics may be
// null. The running variance takes in the unbiased one.
extern "C" __global__ void __launch_bounds__(MERGE_THREADS)
    norm_merge(const float* __restrict__ partials, const float* __restrict__ scale, const float* __restrict__ shift,
               float* __restrict__ moments, float* __restrict__ affine, float* __restrict__ running_mean,
               float* __restrict__ running_variance, int n, int l, int piece_rows, int c, float eps, float momentum) {
  __shared__ Seen tile[MERGE_THREADS];
  int t = threadIdx.x;
  int j = (int)blockIdx.x * MERGE_CHANNELS + t % MERGE_CHANNELS;
  int pieces = (l + piece_rows - 1) / piece_rows;
  int last = l - (pieces - 1) * piece_rows;
  int total = n * pieces;
  const int stride = MERGE_THREADS / MERGE_CHANNELS;
  Seen seen = {0.0f, 0.0f, 0.0f};
  if (j < c) {
    for (int chunk = t / MERGE_CHANNELS; chunk < total; chunk += stride * MERGE_CHUNK) {
      float2 parts[MERGE_CHUNK];
      float counts[MERGE_CHUNK];
#pragma unroll
      for (int i = 0; i < MERGE_CHUNK; i++) {
        int row = chunk + i * stride;
        bool there = row < total;
        parts[i] = make_float2(0.0f, 0.0f);
        if (there) parts[i] = *reinterpret_cast<const float2*>(partials + ((size_t)row * c + j) * 2);
        counts[i] = there ? (float)(row % pieces == pieces - 1 ? last : piece_rows) : 0.0f;
      }
      // All of the chunk around the first of its means.
      float center = parts[0].x;
      Seen own = {0.0f, 0.0f, 0.0f};
#pragma unroll
      for (int i = 0; i < MERGE_CHUNK; i++) {
        own.count += counts[i];
        if (counts[i] > 0.0f) own.mean += counts[i] * (parts[i].x - center);
      }
      own.mean = own.mean / own.count + center;
#pragma unroll
      for (int i = 0; i < MERGE_CHUNK; i++) {
        float deviation = parts[i].x - own.mean;
        if (counts[i] > 0.0f) own.squares += parts[i].y + counts[i] * (deviation * deviation);
      }
      seen = together(seen, own);
    }
  }
  tile[t] = seen;
  __syncthreads();
  for (int half = MERGE_THREADS / 2; half >= MERGE_CHANNELS; half /= 2) {
    if (t < half) tile[t] = together(tile[t], tile[t + half]);
    __syncthreads();
  }
  if (t >= MERGE_CHANNELS || j >= c) return;
  double count = (double)n * l;
  float mean = tile[t].mean;
  double squares = tile[t].squares;
  float inv_std = (float)(1.0 / sqrt(squares / count + (double)eps));
  moments[2 * (size_t)j] = mean;
  moments[2 * (size_t)j + 1] = inv_std;
  if (affine != nullptr) {
    float factor = scale[j] * inv_std;
    affine[2 * (size_t)j] = factor;
    affine[2 * (size_t)j + 1] = fmaf(-mean, factor, shift[j]);
  }
  if (running_mean != nullptr) running_mean[j] += momentum * (mean - running_mean[j]);
  if (running_variance != nullptr) {
    float variance = (float)(squares / (count > 1.0 ? count - 1.0 : 1.0));
    running_variance[j] += momentum * (variance - running_variance[j]);
  }
}

// The gradients of scale and shift, and from them that of the input as an affine map; `count` numbers a channel. `dscale` and
// `dshift` are assigned; they and `coefficients` may be null.
extern "C" __global__ void __launch_bounds__(MERGE_THREADS)
    norm_gradient_merge(const float* __restrict__ partials, const float* __restrict__ moments,
                        const float* __restrict__ scale, float* __restrict__ dscale, float* __restrict__ dshift,
                        float* __restrict__ coefficients, int pieces, int count, int c) {
  __shared__ float2 tile[MERGE_THREADS];
  int t = threadIdx.x;
  int j = (int)blockIdx.x * MERGE_CHANNELS + t % MERGE_CHANNELS;
  const int stride = MERGE_THREADS / MERGE_CHANNELS;
  float2 sums = make_float2(0.0f, 0.0f);
  if (j < c) {
    for (int chunk = t / MERGE_CHANNELS; chunk < pieces; chunk += stride * MERGE_CHUNK) {
      float2 parts[MERGE_CHUNK];
#pragma unroll
      for (int i = 0; i < MERGE_CHUNK; i++) {
        int row = chunk + i * stride;
        parts[i] = make_float2(0.0f, 0.0f);
        if (row < pieces) parts[i] = *reinterpret_cast<const float2*>(partials + ((size_t)row * c + j) * 2);
      }
      float2 own = make_float2(0.0f, 0.0f);
#pragma unroll
      for (int i = 0; i < MERGE_CHUNK; i++) {
        own.x += parts[i].x;
        own.y += parts[i].y;
      }
      sums.x += own.x;
      sums.y += own.y;
    }
  }
  tile[t] = sums;
  __syncthreads();
  for (int half = MERGE_THREADS / 2; half >= MERGE_CHANNELS; half /= 2) {
    if (t < half) {
      tile[t].x += tile[t + half].x;
      tile[t].y += tile[t + half].y;
    }
    __syncthreads();
  }
  if (t >= MERGE_CHANNELS || j >= c) return;
  sums = tile[t];
  if (dscale != nullptr) dscale[j] = sums.y;
  if (dshift != nullptr) dshift[j] = sums.x;
  if (coefficients == nullptr) return;
  float mean = moments[2 * (size_t)j], inv_std = moments[2 * (size_t)j + 1];
  float alpha = scale[j] * inv_std;
  float beta = -alpha * inv_std * (sums.y / (float)count);
  coefficients[3 * (size_t)j] = alpha;
  coefficients[3 * (size_t)j + 1] = beta;
  coefficients[3 * (size_t)j + 2] = fmaf(-mean, beta, -alpha * (sums.x / (float)count));
}

// ---- Maps ---------------------------------------------------------------------------------------------------------------------

// Where a thread of a `maps` block stands: its first channel and first row, and the rows between its own.
struct Map {
  int channel, row, step;
};

template <int WIDTH>
__device__ __forceinline__ Map map_of(int c) {
  int columns = c / WIDTH;
  int lanes = lanes_of(columns);
  int wide = (columns + lanes - 1) / lanes;
  Map at;
  at.step = SUM_THREADS / lanes;
  int column = ((int)blockIdx.x % wide) * lanes + (int)threadIdx.x % lanes;
  at.channel = column < columns ? column * WIDTH : c;
  at.row = ((int)blockIdx.x / wide) * (MAP_ROWS * at.step) + (int)threadIdx.x / lanes;
  return at;
}

// True where vectors of four may be moved at these addresses.
__device__ __forceinline__ bool aligned(const void* a, const void* b, const void* c) {
  return (((size_t)a | (size_t)b | (size_t)c) & 15) == 0;
}

template <int WIDTH>
__device__ __forceinline__ void load(float (&to)[WIDTH], const float* from, bool aligned) {
  if (WIDTH == 4 && aligned) {
    float4 four = *reinterpret_cast<const float4*>(from);
    to[0] = four.x, to[1 % WIDTH] = four.y, to[2 % WIDTH] = four.z, to[3 % WIDTH] = four.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < WIDTH; i++) to[i] = from[i];
}

template <int WIDTH>
__device__ __forceinline__ void store(float* to, const float (&from)[WIDTH], bool aligned) {
  if (WIDTH == 4 && aligned) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1 % WIDTH], from[2 % WIDTH], from[3 % WIDTH]);
    return;
  }
#pragma unroll
  for (int i = 0; i < WIDTH; i++) to[i] = from[i];
}

// y = (x - mean) / std * scale + shift.
template <int WIDTH>
__device__ __forceinline__ void apply(const float* __restrict__ x, const float* __restrict__ moments,
                                      const float* __restrict__ scale, const float* __restrict__ shift,
                                      float* __restrict__ y, int rows, int c) {
  Map at = map_of<WIDTH>(c);
  if (at.channel >= c) return;
  bool vectors = aligned(x, y, y);
  float mean[WIDTH], factor[WIDTH], offset[WIDTH];
#pragma unroll
  for (int i = 0; i < WIDTH; i++) {
    size_t j = at.channel + i;
    mean[i] = moments[2 * j];
    factor[i] = moments[2 * j + 1] * scale[j];
    offset[i] = shift[j];
  }
#pragma unroll
  for (int r = 0; r < MAP_ROWS; r++) {
    int row = at.row + r * at.step;
    if (row >= rows) continue;
    size_t first = (size_t)row * c + at.channel;
    float numbers[WIDTH];
    load(numbers, x + first, vectors);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) numbers[i] = (numbers[i] - mean[i]) * factor[i] + offset[i];
    store(y + first, numbers, vectors);
  }
}

extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    norm_apply(const float* __restrict__ x, const float* __restrict__ moments, const float* __restrict__ scale,
               const float* __restrict__ shift, float* __restrict__ y, int rows, int c) {
  if (c % 4 == 0) {
    apply<4>(x, moments, scale, shift, y, rows, c);
  } else {
    apply<1>(x, moments, scale, shift, y, rows, c);
  }
}

// dx = scale / std * (dy - dshift / m - (x - mean) / std * dscale / m), m = rows.
template <int WIDTH>
__device__ __forceinline__ void gradient(const float* __restrict__ x, const float* __restrict__ dy,
                                         const float* __restrict__ moments, const float* __restrict__ scale,
                                         const float* __restrict__ dscale, const float* __restrict__ dshift,
                                         float* __restrict__ dx, int rows, int c) {
  Map at = map_of<WIDTH>(c);
  if (at.channel >= c) return;
  bool vectors = aligned(x, dy, dx);
  float mean[WIDTH], factor[WIDTH], a[WIDTH], b[WIDTH];
#pragma unroll
  for (int i = 0; i < WIDTH; i++) {
    size_t j = at.channel + i;
    float inv_std = moments[2 * j + 1];
    mean[i] = moments[2 * j];
    factor[i] = scale[j] * inv_std;
    a[i] = dshift[j] / (float)rows;
    b[i] = dscale[j] * inv_std / (float)rows;
  }
#pragma unroll
  for (int r = 0; r < MAP_ROWS; r++) {
    int row = at.row + r * at.step;
    if (row >= rows) continue;
    size_t first = (size_t)row * c + at.channel;
    float numbers[WIDTH], g[WIDTH];
    load(numbers, x + first, vectors);
    load(g, dy + first, vectors);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) g[i] = factor[i] * ((g[i] - a[i]) - (numbers[i] - mean[i]) * b[i]);
    store(dx + first, g, vectors);
  }
}

extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    norm_gradient_apply(const float* __restrict__ x, const float* __restrict__ dy, const float* __restrict__ moments,
                        const float* __restrict__ scale, const float* __restrict__ dscale,
                        const float* __restrict__ dshift, float* __restrict__ dx, int rows, int c) {
  if (c % 4 == 0) {
    gradient<4>(x, dy, moments, scale, dscale, dshift, dx, rows, c);
  } else {
    gradient<1>(x, dy, moments, scale, dscale, dshift, dx, rows, c);
  }
}

// With statistics that are not the batch's: dx = scale / std * dy.
template <int WIDTH>
__device__ __forceinline__ void scaled(const float* __restrict__ dy, const float* __restrict__ moments,
                                       const float* __restrict__ scale, float* __restrict__ dx, int rows, int c) {
  Map at = map_of<WIDTH>(c);
  if (at.channel >= c) return;
  bool vectors = aligned(dy, dx, dx);
  float factor[WIDTH];
#pragma unroll
  for (int i = 0; i < WIDTH; i++) factor[i] = scale[at.channel + i] * moments[2 * (size_t)(at.channel + i) + 1];
#pragma unroll
  for (int r = 0; r < MAP_ROWS; r++) {
    int row = at.row + r * at.step;
    if (row >= rows) continue;
    size_t first = (size_t)row * c + at.channel;
    float g[WIDTH];
    load(g, dy + first, vectors);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) g[i] *= factor[i];
    store(dx + first, g, vectors);
  }
}

extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    norm_scale(const float* __restrict__ dy, const float* __restrict__ moments, const float* __restrict__ scale,
               float* __restrict__ dx, int rows, int c) {
  if (c % 4 == 0) {
    scaled<4>(dy, moments, scale, dx, rows, c);
  } else {
    scaled<1>(dy, moments, scale, dx, rows, c);
  }
}

// y = max(0, factor z + offset); the argmax becomes 7 where y is not above 0. `argmax` may be null, `y` may be `pooled_z`.
// A NaN stays a NaN, and its argmax is 7.
template <int WIDTH>
__device__ __forceinline__ void pool_apply(const float* pooled_z, unsigned char* argmax, const float* affine, float* y,
                                           int cells, int c) {
  Map at = map_of<WIDTH>(c);
  if (at.channel >= c) return;
  bool vectors = aligned(pooled_z, y, y);
  bool words = WIDTH == 4 && ((size_t)argmax & 3) == 0;
  float factor[WIDTH], offset[WIDTH];
#pragma unroll
  for (int i = 0; i < WIDTH; i++) {
    factor[i] = affine[2 * (size_t)(at.channel + i)];
    offset[i] = affine[2 * (size_t)(at.channel + i) + 1];
  }
#pragma unroll
  for (int r = 0; r < MAP_ROWS; r++) {
    int row = at.row + r * at.step;
    if (row >= cells) continue;
    size_t first = (size_t)row * c + at.channel;
    float numbers[WIDTH];
    load(numbers, pooled_z + first, vectors);
    uint32_t zeroed = 0;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
      float v = fmaf(factor[i], numbers[i], offset[i]);
      if (!(v > 0.0f)) zeroed |= 0xffu << (8 * i);
      numbers[i] = v <= 0.0f ? 0.0f : v;
    }
    store(y + first, numbers, vectors);
    if (argmax == nullptr || zeroed == 0) continue;
    if (words) {
      uint32_t* word = reinterpret_cast<uint32_t*>(argmax + first);
      *word = (*word & ~zeroed) | (0x07070707u & zeroed);
    } else {
#pragma unroll
      for (int i = 0; i < WIDTH; i++) {
        if (zeroed >> (8 * i) & 1) argmax[first + i] = 7;
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    norm_pool_apply(const float* pooled_z, unsigned char* argmax, const float* affine, float* y, int cells, int c) {
  if (c % 4 == 0) {
    pool_apply<4>(pooled_z, argmax, affine, y, cells, c);
  } else {
    pool_apply<1>(pooled_z, argmax, affine, y, cells, c);
  }
}

// ---- Channels -----------------------------------------------------------------------------------------------------------------

// The running statistics as an affine map; with the bias of a convolution before the norm in it, if there is one.
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    norm_running_affine(const float* __restrict__ scale, const float* __restrict__ shift, const float* __restrict__ mean,
                        const float* __restrict__ variance, const float* __restrict__ bias_or_null,
                        float* __restrict__ affine, int c, float eps) {
  int j = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (j >= c) return;
  float factor = (float)((double)scale[j] / sqrt((double)variance[j] + (double)eps));
  float bias = bias_or_null != nullptr ? bias_or_null[j] : 0.0f;
  affine[2 * (size_t)j] = factor;
  affine[2 * (size_t)j + 1] = fmaf(bias - mean[j], factor, shift[j]);
}

// The running statistics as moments.
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    norm_running_moments(const float* __restrict__ mean, const float* __restrict__ variance, float* __restrict__ moments,
                         int c, float eps) {
  int j = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (j >= c) return;
  moments[2 * (size_t)j] = mean[j];
  moments[2 * (size_t)j + 1] = (float)(1.0 / sqrt((double)variance[j] + (double)eps));
}
