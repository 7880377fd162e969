// warp.cpp: shuffles, ballots, __syncwarp and the matrix units. Lanes leave a request; when all lanes of its mask have come, the
// scheduler computes the answers for the whole warp at once.
#include "runner.h"

#include <cmath>
#include <cstdio>
#include <cstring>

namespace simt {

namespace {

const char* name_of(WarpOp op) {
  switch (op) {
    case WarpOp::SyncWarp: return "__syncwarp";
    case WarpOp::Shuffle: return "a shuffle";
    case WarpOp::Ballot: return "__ballot_sync";
    case WarpOp::MmaTf32: return "mma_tf32";
    case WarpOp::MmaBf16: return "mma_bf16";
  }
  return "?";
}

float as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// The sum of one group of products as a float: cut toward zero, as the units do.
float round_sum(double sum) {
  float nearest = static_cast<float>(sum);
  if (options.nearest || std::isnan(sum)) return nearest;
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(sum)) return std::nextafterf(nearest, 0.0f);
  return nearest;
}

// The unit reads the upper 19 bits of a TF32 operand.
double tf32_value(uint32_t bits) { return as_float(bits & 0xffffe000u); }

double bf16_value(uint32_t pair, unsigned half) { return as_float(half ? pair & 0xffff0000u : pair << 16); }

// D += A B for 16 x K by K x 8. Fragment maps: the head of kernels/common.cuh's section "Matrix units".
template <int K>
void multiply(Fiber* lanes, const double (&a)[16][K], const double (&b)[K][8]) {
  double c[16][8];
  for (unsigned l = 0; l < WARP; l++) {
    unsigned g = l / 4;
    unsigned t = l % 4;
    const float* d = lanes[l].request.d;
    for (unsigned i = 0; i < 4; i++) c[g + i / 2 * 8][2 * t + i % 2] = d[i];
  }
  for (int row = 0; row < 16; row++) {
    for (int k = 0; k < K; k++) {
      for (int column = 0; column < 8; column++) c[row][column] += a[row][k] * b[k][column];
    }
  }
  for (unsigned l = 0; l < WARP; l++) {
    unsigned g = l / 4;
    unsigned t = l % 4;
    float* d = lanes[l].request.d;
    for (unsigned i = 0; i < 4; i++) d[i] = round_sum(c[g + i / 2 * 8][2 * t + i % 2]);
  }
}

void complete_tf32(Fiber* lanes) {
  double a[16][8];
  double b[8][8];
  for (unsigned l = 0; l < WARP; l++) {
    unsigned g = l / 4;
    unsigned t = l % 4;
    const WarpRequest& request = lanes[l].request;
    for (unsigned i = 0; i < 4; i++) a[g + i % 2 * 8][t + i / 2 * 4] = tf32_value(request.a[i]);
    for (unsigned i = 0; i < 2; i++) b[t + i * 4][g] = tf32_value(request.b[i]);
  }
  multiply<8>(lanes, a, b);
}

void complete_bf16(Fiber* lanes) {
  double a[16][16];
  double b[16][8];
  for (unsigned l = 0; l < WARP; l++) {
    unsigned g = l / 4;
    unsigned t = l % 4;
    const WarpRequest& request = lanes[l].request;
    for (unsigned half = 0; half < 2; half++) {
      for (unsigned i = 0; i < 4; i++) a[g + i % 2 * 8][2 * t + half + i / 2 * 8] = bf16_value(request.a[i], half);
      for (unsigned i = 0; i < 2; i++) b[2 * t + half + i * 8][g] = bf16_value(request.b[i], half);
    }
  }
  multiply<16>(lanes, a, b);
}

// Lanes of the mask that have returned or never existed hand out poison: reading them is undefined.
void complete_shuffle(Fiber* lanes, unsigned arrived) {
  uint32_t values[WARP];
  for (unsigned l = 0; l < WARP; l++) values[l] = arrived >> l & 1 ? lanes[l].request.value : POISON;
  for (unsigned l = 0; l < WARP; l++) {
    if (arrived >> l & 1) lanes[l].request.value = values[lanes[l].request.source];
  }
}

void complete_ballot(Fiber* lanes, unsigned arrived) {
  uint32_t votes = 0;
  for (unsigned l = 0; l < WARP; l++) {
    if (arrived >> l & 1) votes |= (uint32_t)(lanes[l].request.value != 0) << l;
  }
  for (unsigned l = 0; l < WARP; l++) {
    if (arrived >> l & 1) lanes[l].request.value = votes;
  }
}

void complete(Fiber* lanes, unsigned warp, unsigned arrived, const WarpRequest& first) {
  bool is_mma = first.op == WarpOp::MmaTf32 || first.op == WarpOp::MmaBf16;
  if (is_mma && arrived != ~0u) die("mma without all 32 lanes", first.here, run.current);
  switch (first.op) {
    // Only this one orders memory between the lanes; shuffles and matrix products do not.
    case WarpOp::SyncWarp: run.warp_syncs[warp]++; break;
    case WarpOp::Shuffle: complete_shuffle(lanes, arrived); break;
    case WarpOp::Ballot: complete_ballot(lanes, arrived); break;
    case WarpOp::MmaTf32: complete_tf32(lanes); break;
    case WarpOp::MmaBf16: complete_bf16(lanes); break;
  }
  for (unsigned l = 0; l < WARP; l++) {
    if (arrived >> l & 1) lanes[l].state = State::Ready;
  }
}

void check_same(const WarpRequest& first, const WarpRequest& other, unsigned thread) {
  bool same = other.op == first.op && other.mask == first.mask && other.here.line == first.here.line &&
              strcmp(other.here.file, first.here.file) == 0;
  if (same) return;
  char text[192];
  snprintf(text, sizeof text, "lanes in different warp operations: %s with mask %08x, while a lower lane is in %s at line %d with %08x",
           name_of(other.op), other.mask, name_of(first.op), first.here.line, first.mask);
  die(text, other.here, thread);
}

WarpRequest& ask(WarpOp op, unsigned mask, Here here) {
  if (!(mask >> lane() & 1)) die("a lane outside the mask it names", here, run.current);
  WarpRequest& request = run.fibers[run.current].request;
  request.op = op;
  request.mask = mask;
  request.here = here;
  return request;
}

}  // namespace

bool complete_warp(unsigned warp) {
  Fiber* lanes = &run.fibers[warp * WARP];
  unsigned count = run.threads - warp * WARP < WARP ? run.threads - warp * WARP : WARP;
  unsigned waiting = 0;
  unsigned alive = 0;
  for (unsigned l = 0; l < count; l++) {
    waiting |= (unsigned)(lanes[l].state == State::InWarp) << l;
    alive |= (unsigned)(lanes[l].state != State::Returned) << l;
  }
  bool any = false;
  while (waiting) {
    unsigned lowest = (unsigned)__builtin_ctz(waiting);
    const WarpRequest first = lanes[lowest].request;
    unsigned expected = first.mask & alive;
    if ((expected & waiting) == expected) {
      for (unsigned l = lowest + 1; l < count; l++) {
        if (expected >> l & 1) check_same(first, lanes[l].request, warp * WARP + l);
      }
      run.current = warp * WARP + lowest;
      complete(lanes, warp, expected, first);
      any = true;
    }
    waiting &= ~expected;
  }
  return any;
}

unsigned lane() { return run.current % WARP; }

void sync_warp(unsigned mask, Here here) {
  ask(WarpOp::SyncWarp, mask, here);
  suspend(State::InWarp, here);
}

unsigned ballot(unsigned mask, bool predicate, Here here) {
  WarpRequest& request = ask(WarpOp::Ballot, mask, here);
  request.value = predicate;
  suspend(State::InWarp, here);
  return request.value;
}

uint32_t shuffle(unsigned mask, uint32_t value, unsigned source, Here here) {
  WarpRequest& request = ask(WarpOp::Shuffle, mask, here);
  request.value = value;
  request.source = source % WARP;
  suspend(State::InWarp, here);
  return request.value;
}

static void mma(WarpOp op, float* d, const uint32_t* a, const uint32_t* b, Here here) {
  WarpRequest& request = ask(op, ~0u, here);
  request.d = d;
  request.a = a;
  request.b = b;
  suspend(State::InWarp, here);
}

void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Here here) { mma(WarpOp::MmaTf32, d, a, b, here); }

void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Here here) { mma(WarpOp::MmaBf16, d, a, b, here); }

}  // namespace simt
