// mono_norm.cu: batch norm behind a convolution of one input channel and up to five taps, in training. The
// convolution's rows are never stored. The head of src/ops/conv_block/mono_norm.rs explains what is computed and why.
//
// Forward: `mono_norm_moments` reads the audio once, `mono_norm_fold` makes statistics of its moments and the weights with the norm
// in them, and the convolution runs as one without norm (conv_mono.cu). Backward: its sums over a sparse gradient give those of the
// parameters (`mono_norm_gradients`). The gradient of the audio, if it is needed, is that of the convolution with the folded weights,
// and what the norm's two means add to it (`mono_norm_input`).
//
// moments   [30]    X[t], the sum of x[row + t], and R[t][u], that of x[row + t] x[row + u], over all rows of all samples; there are zeros
//                   before and after the audio. The sums of taps that the convolution does not have are unspecified.
// channels  [c][2]  mean, 1 / sqrt(variance + eps)
// slopes    [c][2]  beta, delta: dz = alpha g + beta z + delta
//
// All in double precision: a mean far from zero costs nothing. Six MACs per sample are 25 million for 256 clips of a second: 2 us
// on an H200, 40 us on an RTX 4090, which has one unit for doubles in 64: a thousandth of a step there. Sums have two levels and a fixed order.
#include "common.cuh"

constexpr int TAPS = 5;
constexpr int MOMENTS = TAPS + TAPS * TAPS;

// ---- Moments of the audio -----------------------------------------------------------------------------------------------------

constexpr int THREADS = 256;
constexpr int RUN = 16;               // rows of a thread, one after the other
constexpr int PIECE = THREADS * RUN;  // rows of a block
constexpr int HALO = TAPS - 1;

// The index of a sample in shared memory: there is a gap after every run, so that the threads of a warp read from different banks.
__device__ __forceinline__ int padded(int sample) { return sample + sample / RUN; }

// Grid: pieces of a sample times samples. `rows` of a sample, of `l` numbers behind `pad` zeros.
extern "C" __global__ void __launch_bounds__(THREADS)
    mono_norm_moments(const float* __restrict__ x, double* __restrict__ partials, int l, int rows, int pad, int pieces) {
  __shared__ float samples[PIECE + HALO + (PIECE + HALO) / RUN + 1];
  __shared__ double sums[TAPS + 1][THREADS];
  int t = threadIdx.x, first = (int)blockIdx.x % pieces * PIECE, count = min(PIECE, rows - first);
  const float* audio = x + (size_t)(blockIdx.x / pieces) * l;
  for (int i = t; i < PIECE + HALO; i += THREADS) {
    int at = first - pad + i;
    samples[padded(i)] = i < count + HALO && at >= 0 && at < l ? audio[at] : 0.f;
  }
  __syncthreads();
  // Of the first tap: its products with those so far apart, and its sum.
  double own[TAPS + 1] = {}, run[RUN + HALO];
#pragma unroll
  for (int i = 0; i < RUN + HALO; i++) run[i] = samples[padded(t * RUN + i)];
#pragma unroll
  for (int i = 0; i < RUN; i++) {
    double number = t * RUN + i < count ? run[i] : 0.0;
#pragma unroll
    for (int apart = 0; apart < TAPS; apart++) own[apart] = fma(number, run[i + apart], own[apart]);
    own[TAPS] += number;
  }
#pragma unroll
  for (int i = 0; i <= TAPS; i++) sums[i][t] = own[i];
  for (int half = THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t >= half) continue;
#pragma unroll
    for (int i = 0; i <= TAPS; i++) sums[i][t] += sums[i][t + half];
  }
  __syncthreads();
  if (t >= MOMENTS) return;
  // Those of later taps differ only at the ends of the piece.
  bool product = t >= TAPS;
  int one = product ? (t - TAPS) / TAPS : t, other = product ? (t - TAPS) % TAPS : t;
  int tap = min(one, other), apart = max(one, other) - tap;
  auto term = [&](int sample) {
    double number = samples[padded(sample)];
    return product ? number * (double)samples[padded(sample + apart)] : number;
  };
  double moment = sums[product ? apart : TAPS][0];
  for (int i = 0; i < tap; i++) moment += term(count + i) - term(i);
  partials[(size_t)blockIdx.x * MOMENTS + t] = moment;
}

// ---- The norm in the weights --------------------------------------------------------------------------------------------------

__device__ __forceinline__ double dot(const double (&a)[TAPS], const double* b) {
  double sum = 0.0;
#pragma unroll
  for (int tap = 0; tap < TAPS; tap++) sum = fma(a[tap], b[tap], sum);
  return sum;
}

// The taps of output j of w [k][c], zeros beyond.
__device__ __forceinline__ void read_taps(double (&taps)[TAPS], const float* w, int k, int c, int j) {
#pragma unroll
  for (int tap = 0; tap < TAPS; tap++) taps[tap] = tap < k ? (double)w[(size_t)tap * c + j] : 0.0;
}

constexpr int FOLD_THREADS = 512;
constexpr int FOLD_WARPS = FOLD_THREADS / 32;

// One block. `count` rows in the batch. Writes the weights as conv_pack does, [5][outputs] with zeros beyond the last tap and output, and
// the bias; running statistics follow, of rows with the bias that the norm takes away.
extern "C" __global__ void __launch_bounds__(FOLD_THREADS)
    mono_norm_fold(const double* __restrict__ partials, const float* __restrict__ w, const float* __restrict__ bias,
                     const float* __restrict__ scale, const float* __restrict__ shift, double* __restrict__ moments,
                     double* __restrict__ channels, float* __restrict__ folded, float* __restrict__ folded_bias,
                     float* __restrict__ running_mean, float* __restrict__ running_variance, int pieces, int count, int k, int c,
                     int outputs, float eps, float momentum) {
  __shared__ double parts[FOLD_WARPS][MOMENTS], sums[MOMENTS];
  int t = threadIdx.x, lane = t % 32, warp = t / 32;
  if (lane < MOMENTS) {
    double sum = 0.0;
#pragma unroll 8
    for (int piece = warp; piece < pieces; piece += FOLD_WARPS) sum += partials[(size_t)piece * MOMENTS + lane];
    parts[warp][lane] = sum;
  }
  __syncthreads();
  if (t < MOMENTS) {
    double sum = 0.0;
    for (int part = 0; part < FOLD_WARPS; part++) sum += parts[part][t];
    moments[t] = sums[t] = sum;
  }
  __syncthreads();
  for (int j = t; j < outputs; j += FOLD_THREADS) {
    double taps[TAPS] = {}, size = 0.0;
    if (j < c) {
      read_taps(taps, w, k, c, j);
      double mean = dot(taps, sums) / count, square = 0.0;
#pragma unroll
      for (int tap = 0; tap < TAPS; tap++) square = fma(taps[tap], dot(taps, sums + TAPS + tap * TAPS), square);
      double variance = square / count - mean * mean;
      if (variance < 0.0) variance = 0.0;
      double inv_std = 1.0 / sqrt(variance + (double)eps);
      channels[2 * (size_t)j] = mean;
      channels[2 * (size_t)j + 1] = inv_std;
      size = scale[j] * inv_std;
      folded_bias[j] = (float)(shift[j] - size * mean);
      double unbiased = count > 1 ? variance * count / (count - 1) : variance;
      running_mean[j] += momentum * ((float)(mean + bias[j]) - running_mean[j]);
      running_variance[j] += momentum * ((float)unbiased - running_variance[j]);
    }
#pragma unroll
    for (int tap = 0; tap < TAPS; tap++) folded[(size_t)tap * outputs + j] = (float)(size * taps[tap]);
  }
}

// ---- Gradients ----------------------------------------------------------------------------------------------------------------

constexpr int CHANNELS = 8;  // of a block: a sector of partials
constexpr int PARTS = 20;    // of the pieces
constexpr int GRADIENT_THREADS = PARTS * (TAPS + 1) * CHANNELS;

// From the sums of pieces, [pieces][k + 1][c], of g x[row + t] and of g, where g is the gradient behind the norm. `zeros` numbers behind
// the weights' gradients are cleared: the bias, which the norm takes away, and a gap.
extern "C" __global__ void __launch_bounds__(GRADIENT_THREADS)
    mono_norm_gradients(const float* __restrict__ partials, const float* __restrict__ w, const float* __restrict__ scale,
                          const double* __restrict__ moments, const double* __restrict__ channels, float* __restrict__ dw,
                          float* __restrict__ dscale, float* __restrict__ dshift, double* __restrict__ slopes, int pieces, int count,
                          int zeros, int k, int c) {
  __shared__ double sums[PARTS][TAPS + 1][CHANNELS];
  int t = threadIdx.x, cleared = blockIdx.x * GRADIENT_THREADS + t;
  int channel = t % CHANNELS, number = t / CHANNELS % (TAPS + 1), part = t / (CHANNELS * (TAPS + 1));
  int j = blockIdx.x * CHANNELS + channel;
  if (cleared < zeros) dw[(size_t)k * c + cleared] = 0.f;
  double sum = 0.0;
  if (number <= k && j < c) {
#pragma unroll 8
    for (int piece = part; piece < pieces; piece += PARTS) sum += partials[((size_t)piece * (k + 1) + number) * c + j];
  }
  sums[part][number][channel] = sum;
  __syncthreads();
  if (part == 0) {
    for (int i = 1; i < PARTS; i++) sum += sums[i][number][channel];
    sums[0][number][channel] = sum;
  }
  __syncthreads();
  if (t >= CHANNELS || j >= c) return;
  double taps[TAPS], mean = channels[2 * (size_t)j], inv_std = channels[2 * (size_t)j + 1], size = scale[j] * inv_std;
  read_taps(taps, w, k, c, j);
  // The sum of g, and of g (z - mean).
  double total = sums[0][k][channel], products = -mean * total;
  for (int tap = 0; tap < k; tap++) products = fma(taps[tap], sums[0][tap][channel], products);
  dshift[j] = (float)total;
  dscale[j] = (float)(products * inv_std);
  double mean_gradient = total / count, slope = products * inv_std * inv_std / count;
  for (int tap = 0; tap < k; tap++) {
    double x = moments[tap], deviations = dot(taps, moments + TAPS + tap * TAPS) - mean * x;
    dw[(size_t)tap * c + j] = (float)(size * (sums[0][tap][channel] - mean_gradient * x - slope * deviations));
  }
  slopes[2 * (size_t)j] = -size * slope;
  slopes[2 * (size_t)j + 1] = size * (slope * mean - mean_gradient);
}

constexpr int INPUT_EACH = 16;  // numbers of a thread

// Adds to the audio's gradient what beta z + delta give: another convolution, of a channel, and its transpose in one.
// Grid: pieces of THREADS * INPUT_EACH numbers of a sample times samples.
extern "C" __global__ void __launch_bounds__(THREADS)
    mono_norm_input(const float* __restrict__ x, const float* __restrict__ w, const double* __restrict__ slopes, float* dx, int l,
                      int rows, int pad, int k, int c, int pieces) {
  // Of all outputs: the sum of w[t] delta, and of w[t] beta w[u].
  __shared__ double parts[THREADS / 32][MOMENTS], sums[MOMENTS];
  int t = threadIdx.x, lane = t % 32, warp = t / 32;
  int one = lane < TAPS ? lane : (lane - TAPS) / TAPS, other = (lane - TAPS) % TAPS;
  if (lane < MOMENTS) {
    double sum = 0.0;
    for (int j = warp; j < c && one < k && (lane < TAPS || other < k); j += THREADS / 32) {
      double factor = lane < TAPS ? slopes[2 * (size_t)j + 1] : slopes[2 * (size_t)j] * w[(size_t)other * c + j];
      sum = fma((double)w[(size_t)one * c + j], factor, sum);
    }
    parts[warp][lane] = sum;
  }
  __syncthreads();
  if (t < MOMENTS) {
    double sum = 0.0;
    for (int part = 0; part < THREADS / 32; part++) sum += parts[part][t];
    sums[t] = sum;
  }
  __syncthreads();
  size_t sample = (size_t)(blockIdx.x / pieces) * l;
  int first = (int)blockIdx.x % pieces * (THREADS * INPUT_EACH);
  for (int i = first + t; i < min(l, first + THREADS * INPUT_EACH); i += THREADS) {
    double sum = 0.0;
    for (int tap = 0; tap < k; tap++) {
      int row = i + pad - tap;
      if (row < 0 || row >= rows) continue;
      sum += sums[tap];
      for (int u = 0; u < k; u++) {
        int at = row - pad + u;
        if (at >= 0 && at < l) sum = fma(sums[TAPS + tap * TAPS + u], (double)x[sample + at], sum);
      }
    }
    dx[sample + i] += (float)sum;
  }
}
