// simt.h: runs unchanged CUDA kernels on the CPU. This is what a kernel and a caller of kernels see of the runner.
//
//   g++ -std=c++17 -include simt.h -x c++ kernel.cu
//
// One fiber a thread, one block at a time. What the runner checks and how it schedules is in scheduler.cpp, the operations of a
// warp in warp.cpp, copies in copies.cpp, races and bounds (-DSIMT_RACE) in race.cpp. The vocabulary of CUDA C is in cuda_c.h.
#pragma once
#define SIMT_CPU 1

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace simt {

struct Size3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
  Size3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct Index3 {
  unsigned x;
  unsigned y;
  unsigned z;
};

// A place in a kernel's source: where an operation was called.
struct Here {
  const char* file;
  int line;
  static constexpr Here current(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

// What the running thread sees as threadIdx and so on. The scheduler sets it before it enters a fiber.
struct Context {
  Index3 thread;
  Index3 block;
  Size3 block_size;
  Size3 grid_size;
};
extern Context context;

// ---- Called by kernels --------------------------------------------------------------------------------------------------------

void* dynamic_shared();
void barrier(Here here);

// A thread's index in its warp.
unsigned lane();

enum class WarpOp { SyncWarp, Shuffle, Ballot, MmaTf32, MmaBf16 };

void sync_warp(unsigned mask, Here here);
unsigned ballot(unsigned mask, bool predicate, Here here);
// The value of lane `source`; lanes outside `width` wide groups are never asked for.
uint32_t shuffle(unsigned mask, uint32_t value, unsigned source, Here here);
void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Here here);
void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Here here);

void cp_async(void* shared, const void* global, unsigned bytes, Here here);
void cp_async_commit();
void cp_async_wait(int groups_left);

// ---- Called by tests and by the driver ----------------------------------------------------------------------------------------

// Unpacks an argument list of pointers, as cuLaunchKernel has it, and calls the kernel.
using Thunk = void (*)(void* function, void** arguments);

struct Kernel {
  const char* name;
  void* function;
  Thunk thunk;
  unsigned argument_count;
  const unsigned* argument_sizes;
  const unsigned* argument_alignments;  // of what a pointer points to; 0: not a pointer
  Kernel* next;
};

// All kernels linked in, as a list.
extern Kernel* kernels;
const Kernel* find(const char* name);

// When the data of a cp.async arrive: at the wait, so that a missing wait reads poison; at once, so that a missing barrier after
// the last reader overwrites what is still read; or by the order of the launch: late for even ones, early for odd ones.
enum class Copies { ByOrder, Late, Early };

struct Options {
  Copies copies = Copies::ByOrder;
  // Matrix units round to nearest, where those of NVIDIA cut: then a missing flush of the accumulators is not seen.
  bool nearest = false;
};
extern Options options;

// Order: 0 forward, 1 reverse, anything else the seed of a shuffle, for blocks, warps and lanes.
// Returns the number of races and accesses out of bounds (always 0 without SIMT_RACE). Anything else that is wrong aborts.
long launch(const Kernel& kernel, void** arguments, Size3 grid, Size3 block, size_t dynamic_bytes, unsigned order);

// Memory that kernels may touch, for the bounds check of SIMT_RACE. While none is named, any address passes.
void allow_memory(const void* start, size_t bytes);
void forbid_memory(const void* start);

// What memory holds before anything is written: a NaN as f32, as two bf16 and as an index far outside.
constexpr uint32_t POISON = 0x7fedffedu;
void poison(void* start, size_t bytes);

// ---- Registration -------------------------------------------------------------------------------------------------------------

template <class... Arguments, size_t... I>
void call_with(void (*function)(Arguments...), void** values, std::index_sequence<I...>) {
  (void)values;
  function(*static_cast<std::remove_cv_t<Arguments>*>(values[I])...);
}

template <class Type>
constexpr unsigned pointee_alignment() {
  if constexpr (!std::is_pointer_v<Type>) {
    return 0;
  } else if constexpr (std::is_void_v<std::remove_pointer_t<Type>>) {
    return 1;
  } else {
    return alignof(std::remove_pointer_t<Type>);
  }
}

template <class Function>
struct Signature;

template <class... Arguments>
struct Signature<void (*)(Arguments...)> {
  static_assert((std::is_scalar_v<Arguments> && ...), "kernel parameters are pointers and numbers, no structs");
  static void call(void* function, void** values) {
    call_with(reinterpret_cast<void (*)(Arguments...)>(function), values, std::index_sequence_for<Arguments...>{});
  }
  static constexpr unsigned count = sizeof...(Arguments);
  static inline const unsigned sizes[count + 1] = {sizeof(Arguments)..., 0};
  static inline const unsigned alignments[count + 1] = {pointee_alignment<Arguments>()..., 0};
};

struct Registration {
  Kernel kernel;
  template <class Function>
  Registration(const char* name, Function function)
      : kernel{name, reinterpret_cast<void*>(function), Signature<Function>::call, Signature<Function>::count,
               Signature<Function>::sizes, Signature<Function>::alignments, kernels} {
    kernels = &kernel;
  }
};

}  // namespace simt

#define SIMT_KERNEL(name) static simt::Registration simt_registration_##name(#name, &name);

#ifndef SIMT_RUNTIME
#include "cuda_c.h"
#endif
