// What the chip can do at most: loops of one instruction, compiled at run time by probe.py. Nothing here is part of stapes.

typedef unsigned int u32;

extern "C" __global__ void copy(const float4* from, float4* to, int count) {
    int stride = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) to[i] = from[i];
}

extern "C" __global__ void nothing() {}

// 16 chains of multiply-adds a thread; 32 operations a chain step. `out` is written only if a sum is a number that it cannot be.
extern "C" __global__ void fma_peak(float* out, int steps, float a, float b) {
    float sum[16];
#pragma unroll
    for (int i = 0; i < 16; i++) sum[i] = threadIdx.x + i;
#pragma unroll 8
    for (int s = 0; s < steps; s++) {
#pragma unroll
        for (int i = 0; i < 16; i++) sum[i] = fmaf(sum[i], a, b);
    }
    float all = 0;
#pragma unroll
    for (int i = 0; i < 16; i++) all += sum[i];
    if (all == -1.0f) *out = all;
}

__device__ void mma_tf32(float* c, const u32* a, const u32* b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ void mma_bf16(float* c, const u32* a, const u32* b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Eight independent tiles a warp: 8 * 2048 operations a step in TF32, 8 * 4096 in bf16.
#define PEAK(NAME, MMA)                                                       \
    extern "C" __global__ void NAME(float* out, int steps, u32 pattern) {     \
        float c[8][4];                                                        \
        u32 a[4], b[2];                                                       \
        for (int i = 0; i < 4; i++) a[i] = pattern;                           \
        for (int i = 0; i < 2; i++) b[i] = pattern;                           \
        _Pragma("unroll") for (int t = 0; t < 8; t++)                         \
            for (int i = 0; i < 4; i++) c[t][i] = 0;                          \
        _Pragma("unroll 4") for (int s = 0; s < steps; s++) {                 \
            _Pragma("unroll") for (int t = 0; t < 8; t++) MMA(c[t], a, b);    \
        }                                                                     \
        float all = 0;                                                        \
        _Pragma("unroll") for (int t = 0; t < 8; t++)                         \
            for (int i = 0; i < 4; i++) all += c[t][i];                       \
        if (all == -1.0f) *out = all;                                         \
    }
PEAK(tf32_peak, mma_tf32)
PEAK(bf16_peak, mma_bf16)

// One warp, one tile: every sum begins at `start`; then `steps` times, the product of `a` and `b` is added `terms` times at once (1..8: so
// many of the places of K are not zero). The first sum of the tile goes to `out`.
extern "C" __global__ void tf32_sum(float* out, float start, float a, float b, int terms, int steps) {
    int t = threadIdx.x % 4;
    float c[4] = {start, start, start, start};
    u32 fa[4], fb[2];
    for (int i = 0; i < 4; i++) fa[i] = __float_as_uint(a);
    fb[0] = t < terms ? __float_as_uint(b) : 0;
    fb[1] = t + 4 < terms ? __float_as_uint(b) : 0;
    for (int s = 0; s < steps; s++) mma_tf32(c, fa, fb);
    if (threadIdx.x == 0) *out = c[0];
}

// The same with bf16: two neighbours of K a word, the first of each pair used.
extern "C" __global__ void bf16_sum(float* out, float start, float a, float b, int terms, int steps) {
    int t = threadIdx.x % 4;
    float c[4] = {start, start, start, start};
    u32 fa[4], fb[2];
    for (int i = 0; i < 4; i++) fa[i] = __float_as_uint(a) >> 16;
    fb[0] = t < terms ? __float_as_uint(b) >> 16 : 0;
    fb[1] = t + 4 < terms ? __float_as_uint(b) >> 16 : 0;
    for (int s = 0; s < steps; s++) mma_bf16(c, fa, fb);
    if (threadIdx.x == 0) *out = c[0];
}
