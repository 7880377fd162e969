// scheduler.cpp: fibers, the order of threads, barriers, and poison before every block.
//
// One warp goes as far as it can before the next one moves: that is the greatest skew barriers allow. Stepping all warps in turn
// would hide races, because every shuffle and every mma brings the lanes together.
#include "runner.h"

#include <algorithm>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sys/mman.h>

#if !defined(__x86_64__)
#error "the fiber switch is written for x86-64"
#endif

#ifdef __SANITIZE_ADDRESS__
extern "C" void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void* save, const void** bottom, size_t* size);
extern "C" void __asan_unpoison_memory_region(const volatile void* start, size_t size);
#endif

// Saves the registers a call must keep on the old stack and takes them from the new one.
extern "C" void simt_switch(void** save, void* to);
asm(".text\n"
    ".globl simt_switch\n"
    ".hidden simt_switch\n"
    ".type simt_switch, @function\n"
    "simt_switch:\n"
    "push %rbp\n"
    "push %rbx\n"
    "push %r12\n"
    "push %r13\n"
    "push %r14\n"
    "push %r15\n"
    "mov %rsp, (%rdi)\n"
    "mov %rsi, %rsp\n"
    "pop %r15\n"
    "pop %r14\n"
    "pop %r13\n"
    "pop %r12\n"
    "pop %rbx\n"
    "pop %rbp\n"
    "ret\n"
    ".size simt_switch, . - simt_switch\n");

// The linker makes these of the section's name; absent when no kernel has static shared memory.
extern "C" {
__attribute__((weak, visibility("hidden"))) extern unsigned char __start_simt_shared[];
__attribute__((weak, visibility("hidden"))) extern unsigned char __stop_simt_shared[];
}

namespace simt {

Context context;
Kernel* kernels;
Options options;
Run run;

namespace {

constexpr size_t PAGE = 4096;

// The scheduler's own stack, while a fiber runs.
struct Main {
  void* stack_pointer = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;
} main_stack;

void** launch_arguments;

// ---- Memory -------------------------------------------------------------------------------------------------------------------

// A guarded region: the pages before and after it cannot be touched, so that running out of it is seen at once.
unsigned char* map_guarded(size_t bytes) {
  void* whole = mmap(nullptr, bytes + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  unsigned char* start = static_cast<unsigned char*>(whole) + PAGE;
  if (whole == MAP_FAILED || mprotect(start, bytes, PROT_READ | PROT_WRITE) != 0) {
    fprintf(stderr, "simt: no memory for stacks and shared memory\n");
    abort();
  }
  return start;
}

// Dynamic shared memory ends at a guard page; its start is aligned to 16 bytes and no more, as CUDA promises.
void place_dynamic(size_t bytes) {
  static unsigned char* region = map_guarded((MAX_DYNAMIC + PAGE - 1) / PAGE * PAGE);
  unsigned char* end = region + (MAX_DYNAMIC + PAGE - 1) / PAGE * PAGE;
  run.dynamic_bytes = bytes;
  run.dynamic = end - (bytes + 15) / 16 * 16;
}

// ---- Faults of memory ---------------------------------------------------------------------------------------------------------

struct sigaction previous_segv;

// A kernel that touches no memory of this process: say which one before dying.
void on_segv(int signal, siginfo_t* info, void* state) {
  if (run.active) {
    char text[96];
    snprintf(text, sizeof text, "access to address %p, which is no memory, or a stack of more than %zu KB", info->si_addr,
             STACK_BYTES >> 10);
    die(text, run.fibers[run.current].here, run.current);
  }
  if ((previous_segv.sa_flags & SA_SIGINFO) && previous_segv.sa_sigaction) {
    previous_segv.sa_sigaction(signal, info, state);
    return;
  }
  sigaction(SIGSEGV, &previous_segv, nullptr);
}

void watch_segv() {
#ifndef __SANITIZE_ADDRESS__
  // Runs on a stack of its own, because the fiber's may be what overflowed. A thread of the host may have none yet.
  static unsigned char* stack = map_guarded(64 << 10);
  stack_t alternate = {};
  sigaltstack(nullptr, &alternate);
  if (alternate.ss_flags & SS_DISABLE) {
    alternate.ss_sp = stack;
    alternate.ss_size = 64 << 10;
    alternate.ss_flags = 0;
    sigaltstack(&alternate, nullptr);
  }
  struct sigaction now;
  sigaction(SIGSEGV, nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_segv) return;
  previous_segv = now;
  struct sigaction ours = {};
  ours.sa_sigaction = on_segv;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &ours, nullptr);
#else
  (void)previous_segv;
  (void)on_segv;
#endif
}

// ---- Fibers -------------------------------------------------------------------------------------------------------------------

void enter_main(bool last) {
  Fiber& fiber = run.fibers[run.current];
#ifdef __SANITIZE_ADDRESS__
  void* keep = nullptr;
  __sanitizer_start_switch_fiber(last ? nullptr : &keep, main_stack.bottom, main_stack.size);
  simt_switch(&fiber.stack_pointer, main_stack.stack_pointer);
  __sanitizer_finish_switch_fiber(keep, nullptr, nullptr);
#else
  (void)last;
  simt_switch(&fiber.stack_pointer, main_stack.stack_pointer);
#endif
}

void fiber_entry() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &main_stack.bottom, &main_stack.size);
#endif
  run.kernel->thunk(run.kernel->function, launch_arguments);
  check_copies_waited();
  Fiber& fiber = run.fibers[run.current];
  fiber.state = State::Returned;
  enter_main(true);
  abort();  // a returned thread is never resumed
}

void resume(unsigned thread) {
  Fiber& fiber = run.fibers[thread];
  run.current = thread;
  context.thread = fiber.thread;
  fiber.state = State::Ready;
#ifdef __SANITIZE_ADDRESS__
  void* keep = nullptr;
  __sanitizer_start_switch_fiber(&keep, fiber.stack, STACK_BYTES);
  simt_switch(&main_stack.stack_pointer, fiber.stack_pointer);
  __sanitizer_finish_switch_fiber(keep, nullptr, nullptr);
#else
  simt_switch(&main_stack.stack_pointer, fiber.stack_pointer);
#endif
}

// A fresh stack, on which the first switch "returns" into the entry.
void reset_fiber(Fiber& fiber, unsigned thread) {
#ifdef __SANITIZE_ADDRESS__
  // The last frames of the thread before never returned: what guarded their variables would lie in the middle of this one's.
  __asan_unpoison_memory_region(fiber.stack, STACK_BYTES);
#endif
  void** top = reinterpret_cast<void**>(fiber.stack + STACK_BYTES) - 1;
  *--top = reinterpret_cast<void*>(fiber_entry);
  for (int saved = 0; saved < 6; saved++) *--top = nullptr;
  fiber.stack_pointer = top;
  fiber.state = State::Ready;
  fiber.here = {nullptr, 0};
  const Size3& size = context.block_size;
  fiber.thread = {thread % size.x, thread / size.x % size.y, thread / size.x / size.y};
  fiber.copies.clear();
  fiber.group = 0;
}

// ---- Order --------------------------------------------------------------------------------------------------------------------

class Order {
 public:
  explicit Order(unsigned order) : order_(order), random_(order) {}

  // 0, 1, .. count - 1 in this order; another one every time if shuffled.
  void arrange(std::vector<unsigned>& list, unsigned count) {
    list.resize(count);
    for (unsigned i = 0; i < count; i++) list[i] = order_ == 1 ? count - 1 - i : i;
    if (order_ > 1) std::shuffle(list.begin(), list.end(), random_);
  }

 private:
  unsigned order_;
  std::mt19937 random_;
};

// Runs one warp until all its lanes wait for other warps or have returned. True if any lane moved.
bool run_warp(unsigned warp, Order& order) {
  static std::vector<unsigned> lanes;
  unsigned first = warp * WARP;
  unsigned count = std::min(run.threads - first, WARP);
  bool moved = false;
  do {
    order.arrange(lanes, count);
    for (unsigned lane : lanes) {
      if (run.fibers[first + lane].state != State::Ready) continue;
      resume(first + lane);
      moved = true;
    }
  } while (complete_warp(warp));
  return moved;
}

// All threads are at a barrier: it must be one barrier.
void release_barrier() {
  const Here first = run.fibers[0].here;
  for (unsigned i = 1; i < run.threads; i++) {
    const Here& here = run.fibers[i].here;
    if (here.line == first.line && strcmp(here.file, first.file) == 0) continue;
    char text[160];
    snprintf(text, sizeof text, "threads at different barriers: thread 0 is at line %d", first.line);
    die(text, here, i);
  }
  for (unsigned i = 0; i < run.threads; i++) run.fibers[i].state = State::Ready;
  run.barriers++;
}

// Nobody can move: say who waits for what.
[[noreturn]] void die_stuck(unsigned returned) {
  for (unsigned i = 0; i < run.threads; i++) {
    const Fiber& fiber = run.fibers[i];
    if (fiber.state == State::InWarp) {
      die("a warp operation that other lanes of its mask never reach, since they wait elsewhere", fiber.here, i);
    }
  }
  for (unsigned i = 0; i < run.threads; i++) {
    const Fiber& fiber = run.fibers[i];
    if (fiber.state != State::AtBarrier) continue;
    char text[96];
    snprintf(text, sizeof text, "a barrier not reached by %u threads, which have returned", returned);
    die(text, fiber.here, i);
  }
  die("no thread can move", {nullptr, 0}, 0);
}

void run_block(Order& order) {
  Range shared = static_shared();
  if (shared.start) poison(shared.start, (size_t)(shared.end - shared.start));
  poison(run.dynamic, run.dynamic_bytes);
  run.barriers = 0;
  std::fill(std::begin(run.warp_syncs), std::end(run.warp_syncs), 0);
  race_block();
  for (unsigned i = 0; i < run.threads; i++) reset_fiber(run.fibers[i], i);

  static std::vector<unsigned> warps;
  for (;;) {
    bool moved = false;
    order.arrange(warps, (run.threads + WARP - 1) / WARP);
    for (unsigned warp : warps) moved |= run_warp(warp, order);

    unsigned waiting = 0;
    unsigned returned = 0;
    for (unsigned i = 0; i < run.threads; i++) {
      waiting += run.fibers[i].state == State::AtBarrier;
      returned += run.fibers[i].state == State::Returned;
    }
    if (returned == run.threads) return;
    if (waiting == run.threads) {
      release_barrier();
    } else if (!moved) {
      die_stuck(returned);
    }
  }
}

void check_limits(Size3 grid, Size3 block, size_t dynamic_bytes) {
  unsigned long long threads = (unsigned long long)block.x * block.y * block.z;
  unsigned long long blocks = (unsigned long long)grid.x * grid.y * grid.z;
  char text[192];
  const char* what = nullptr;
  if (threads == 0 || threads > MAX_THREADS) what = "a block has 1 to 1024 threads";
  if (block.z > 64) what = "a block is at most 64 deep";
  if (blocks == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) what = "a grid has 1 to 2^31-1 x 65535 x 65535 blocks";
  if (blocks > 0xffffffffu) what = "this device counts blocks in 32 bits";
  if (dynamic_bytes > MAX_DYNAMIC) what = "a block has at most 227 KB of dynamic shared memory";
  if (!what) return;
  snprintf(text, sizeof text, "launch outside the limits, %s (grid %u x %u x %u, block %u x %u x %u, %zu bytes)", what, grid.x,
           grid.y, grid.z, block.x, block.y, block.z, dynamic_bytes);
  die(text, {nullptr, 0}, 0);
}

// The kernel's arguments are stored where the race checker knows them, not in memory of the caller.
void take_arguments(const Kernel& kernel, void** arguments) {
  static uint64_t values[64];
  static void* pointers[64];
  if (kernel.argument_count > 64) die("a kernel takes at most 64 arguments here", {nullptr, 0}, 0);
  for (unsigned i = 0; i < kernel.argument_count; i++) {
    memcpy(&values[i], arguments[i], kernel.argument_sizes[i]);
    pointers[i] = &values[i];
  }
  launch_arguments = pointers;
}

}  // namespace

Range static_shared() { return {__start_simt_shared, __stop_simt_shared}; }

void poison(void* start, size_t bytes) {
  unsigned char* to = static_cast<unsigned char*>(start);
  const unsigned char* pattern = reinterpret_cast<const unsigned char*>(&POISON);
  size_t words = bytes / 4;
  for (size_t i = 0; i < words; i++) memcpy(to + 4 * i, pattern, 4);
  for (size_t i = 4 * words; i < bytes; i++) to[i] = pattern[i % 4];
}

void die(const char* what, Here here, unsigned thread) {
  const Index3& block = context.block;
  Index3 index = thread < run.fibers.size() ? run.fibers[thread].thread : Index3{thread, 0, 0};
  char place[256] = "";
  if (here.file) snprintf(place, sizeof place, " at %s:%d", here.file, here.line);
  fprintf(stderr, "simt: %s%s, in kernel %s, block (%u,%u,%u), thread (%u,%u,%u)\n", what, place,
          run.kernel ? run.kernel->name : "?", block.x, block.y, block.z, index.x, index.y, index.z);
  fflush(stderr);
  abort();
}

void suspend(State state, Here here) {
  Fiber& fiber = run.fibers[run.current];
  fiber.state = state;
  fiber.here = here;
  enter_main(false);
}

void* dynamic_shared() { return run.dynamic; }

void barrier(Here here) { suspend(State::AtBarrier, here); }

const Kernel* find(const char* name) {
  for (Kernel* kernel = kernels; kernel; kernel = kernel->next) {
    if (strcmp(kernel->name, name) == 0) return kernel;
  }
  return nullptr;
}

long launch(const Kernel& kernel, void** arguments, Size3 grid, Size3 block, size_t dynamic_bytes, unsigned order_of) {
  run.kernel = &kernel;
  context = {{0, 0, 0}, {0, 0, 0}, block, grid};
  check_limits(grid, block, dynamic_bytes);
  take_arguments(kernel, arguments);
  place_dynamic(dynamic_bytes);
  watch_segv();

  run.threads = block.x * block.y * block.z;
  while (run.fibers.size() < run.threads) {
    Fiber fiber;
    fiber.stack = map_guarded(STACK_BYTES);
    run.fibers.push_back(fiber);
  }
  run.early_copies = options.copies == Copies::ByOrder ? (order_of & 1) : options.copies == Copies::Early;
  run.faults = 0;
  run.active = true;
  race_launch();

  Order order(order_of);
  std::vector<unsigned> blocks;
  order.arrange(blocks, grid.x * grid.y * grid.z);
  for (unsigned index : blocks) {
    run.block = index;
    context.block = {index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
    run_block(order);
  }
  run.active = false;
  return run.faults;
}

}  // namespace simt
