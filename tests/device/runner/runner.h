// runner.h: what the files of the runner share. Kernels never see it.
#pragma once
#ifndef SIMT_RUNTIME
#define SIMT_RUNTIME
#endif
#include "simt.h"

#include <vector>

namespace simt {

constexpr unsigned WARP = 32;
constexpr unsigned MAX_THREADS = 1024;
constexpr size_t MAX_DYNAMIC = 227 << 10;
#ifdef __SANITIZE_ADDRESS__
constexpr size_t STACK_BYTES = 256 << 10;  // red zones
#else
constexpr size_t STACK_BYTES = 64 << 10;
#endif

enum class State { Ready, AtBarrier, InWarp, Returned };

// What a lane asks of its warp, until all lanes of the mask have come.
struct WarpRequest {
  WarpOp op;
  unsigned mask;
  Here here;
  uint32_t value;   // to hand out; then what came back
  unsigned source;  // shuffle: the lane to read
  float* d;         // mma: the lane's registers, on its own stack
  const uint32_t* a;
  const uint32_t* b;
};

struct Copy {
  void* to;
  const void* from;
  unsigned bytes;
  unsigned group;
  Here here;
};

struct Fiber {
  void* stack_pointer = nullptr;
  unsigned char* stack = nullptr;  // its lowest address
  State state = State::Returned;
  Here here = {nullptr, 0};  // where it waits
  Index3 thread = {0, 0, 0};
  WarpRequest request = {};
  std::vector<Copy> copies;  // in flight
  unsigned group = 0;        // of the next copy
};

// Everything about the launch that runs. One instance; every access of a kernel to it is the runner's own.
struct Run {
  const Kernel* kernel = nullptr;
  bool active = false;
  bool early_copies = false;
  unsigned threads = 0;
  unsigned current = 0;   // index of the running thread in its block
  unsigned block = 0;     // index of the running block in its grid
  unsigned barriers = 0;  // passed by the running block
  unsigned warp_syncs[MAX_THREADS / WARP] = {};
  unsigned char* dynamic = nullptr;
  size_t dynamic_bytes = 0;
  long faults = 0;
  std::vector<Fiber> fibers;
};
extern Run run;

// The linker's bounds of all static shared memory of all kernels.
struct Range {
  unsigned char* start;
  unsigned char* end;
};
Range static_shared();

// Prints one sentence that names kernel, block, thread and line, and aborts.
[[noreturn]] void die(const char* what, Here here, unsigned thread);

// Leaves the running thread until the scheduler resumes it.
void suspend(State state, Here here);

// warp.cpp: completes every operation of a warp whose lanes have all come. True if there was one.
bool complete_warp(unsigned warp);

// copies.cpp: called when a thread returns.
void check_copies_waited();

// race.cpp; without SIMT_RACE these do nothing.
void race_launch();
void race_block();
void race_access(const void* address, size_t bytes, bool write);
void race_copy(const void* address, size_t bytes, bool in_flight);

}  // namespace simt
