// race.cpp: races, bounds and alignment of every access of a kernel (-DSIMT_RACE).
//
// The kernels are compiled with -fsanitize=thread, which calls a function before every load and store; those functions are here,
// instead of a race detector for threads of the system. Each word of memory remembers its last writer and its last readers since. An
// access is a fault if it is not ordered after them by a barrier, by __syncwarp, or by being the same thread: whatever order the
// scheduler happened to choose. Shuffles and matrix products order nothing. Two blocks are never ordered.
#include "runner.h"

#ifndef SIMT_RACE

namespace simt {
void race_launch() {}
void race_block() {}
void race_access(const void*, size_t, bool) {}
void race_copy(const void*, size_t, bool) {}
void allow_memory(const void*, size_t) {}
void forbid_memory(const void*) {}
}  // namespace simt

#else

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <map>
#include <memory>
#include <unordered_map>

namespace simt {

namespace {

// Whose accesses a mark describes: one thread, several of one warp, several of one block, or several blocks.
enum class Who : uint8_t { Nobody, Thread, Warp, Block, Grid };

struct Mark {
  uint32_t block = 0;
  uint32_t barriers = 0;    // the block had passed by then
  uint32_t warp_syncs = 0;  // the warp had passed by then
  uint16_t thread = 0;
  Who who = Who::Nobody;
};

// Of one word, or of one byte of a split word.
struct Cell {
  Mark writer;
  Mark readers;
};

struct Word {
  Cell cell;
  uint16_t in_flight = 0;  // cp.async on their way into it
  uint32_t split = 0;      // 1 + index into `splits`, once single bytes have been touched
};

constexpr uintptr_t PAGE_WORDS = 1024;

struct Page {
  std::array<Word, PAGE_WORDS> words;
};

struct Module {
  uintptr_t start = 0;
  uintptr_t end = 0;
};

// Shadow of the memory the running launch has touched.
std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
uintptr_t last_page_index = 0;
Page* last_page = nullptr;
std::vector<std::array<Cell, 4>> splits;

// What the driver has given out: start -> end.
std::map<uintptr_t, uintptr_t> allowed;
Module module;

// ---- Memory -------------------------------------------------------------------------------------------------------------------

Word& word_of(uintptr_t address) {
  uintptr_t index = address / 4 / PAGE_WORDS;
  if (index != last_page_index || !last_page) {
    std::unique_ptr<Page>& page = pages[index];
    if (!page) page = std::make_unique<Page>();
    last_page_index = index;
    last_page = page.get();
  }
  return last_page->words[address / 4 % PAGE_WORDS];
}

template <class Type>
bool within(uintptr_t address, const Type* start, size_t bytes) {
  uintptr_t from = reinterpret_cast<uintptr_t>(start);
  return address >= from && address < from + bytes;
}

bool in_dynamic(uintptr_t address) { return within(address, run.dynamic, run.dynamic_bytes); }

bool in_static(uintptr_t address) {
  Range range = static_shared();
  return range.start && within(address, range.start, (size_t)(range.end - range.start));
}

// The running thread's stack and what the runner keeps for it.
bool is_own(uintptr_t address) {
  const Fiber& fiber = run.fibers[run.current];
  if (within(address, fiber.stack, STACK_BYTES)) return true;
  return within(address, &context, sizeof context) || within(address, &run, sizeof run) || within(address, &options, sizeof options);
}

bool in_allocation(uintptr_t address, size_t bytes) {
  if (allowed.empty()) return true;
  auto after = allowed.upper_bound(address);
  if (after == allowed.begin()) return false;
  --after;
  return address + bytes <= after->second;
}

int find_module(dl_phdr_info* info, size_t, void* function) {
  uintptr_t wanted = reinterpret_cast<uintptr_t>(function);
  Module found = {~(uintptr_t)0, 0};
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const auto& header = info->dlpi_phdr[i];
    if (header.p_type != PT_LOAD) continue;
    uintptr_t start = info->dlpi_addr + header.p_vaddr;
    if (start < found.start) found.start = start;
    if (start + header.p_memsz > found.end) found.end = start + header.p_memsz;
  }
  if (wanted < found.start || wanted >= found.end) return 0;
  module = found;
  return 1;
}

// ---- Reports ------------------------------------------------------------------------------------------------------------------

// "file:line" of an instruction, if binutils are there; else the module and the offset in it.
void describe(void* instruction, char* text, size_t size) {
  Dl_info info;
  if (!dladdr(instruction, &info)) {
    snprintf(text, size, "%p", instruction);
    return;
  }
  uintptr_t offset = reinterpret_cast<uintptr_t>(instruction) - reinterpret_cast<uintptr_t>(info.dli_fbase);
  // A program that is not position independent is asked for absolute addresses.
  const auto* header = static_cast<const ElfW(Ehdr)*>(info.dli_fbase);
  if (header->e_type == ET_EXEC) offset = reinterpret_cast<uintptr_t>(instruction);
  snprintf(text, size, "%s+0x%zx", info.dli_fname, (size_t)offset);
  char command[4400];
  snprintf(command, sizeof command, "addr2line -e '%s' 0x%zx 2>/dev/null", info.dli_fname, (size_t)offset - 1);
  FILE* pipe = popen(command, "r");
  if (!pipe) return;
  char line[400];
  if (fgets(line, sizeof line, pipe) && line[0] != '?') {
    line[strcspn(line, " \n")] = 0;
    snprintf(text, size, "%s", line);
  }
  pclose(pipe);
}

// Every fault counts, the first few of a launch are told.
void fault(const char* what, bool write, uintptr_t address, size_t bytes, void* instruction) {
  run.faults++;
  if (run.faults > 5) return;
  char place[512];
  Here here = run.fibers[run.current].here;
  if (instruction) {
    describe(instruction, place, sizeof place);
  } else {
    snprintf(place, sizeof place, "%s:%d", here.file ? here.file : "?", here.line);
  }
  const char* memory = in_dynamic(address) || in_static(address) ? "shared" : "global";
  const Index3& block = context.block;
  const Index3& thread = context.thread;
  fprintf(stderr, "simt: %s: %s of %zu bytes of %s memory at %s, in kernel %s, block (%u,%u,%u), thread (%u,%u,%u)\n", what,
          write ? "write" : "read", bytes, memory, place, run.kernel->name, block.x, block.y, block.z, thread.x, thread.y, thread.z);
}

// ---- Order --------------------------------------------------------------------------------------------------------------------

Mark mark_now() {
  Mark mark;
  mark.block = run.block;
  mark.barriers = run.barriers;
  mark.warp_syncs = run.warp_syncs[run.current / WARP];
  mark.thread = (uint16_t)run.current;
  mark.who = Who::Thread;
  return mark;
}

// Did all accesses that the mark describes happen before the running thread's next instruction, whatever the order?
bool is_before(const Mark& mark, bool shared) {
  if (mark.who == Who::Nobody) return true;
  // Shared memory of another block is other memory.
  if (shared && mark.block != run.block) return true;
  if (mark.who == Who::Grid || mark.block != run.block) return false;
  if (mark.barriers < run.barriers) return true;
  if (mark.who == Who::Thread && mark.thread == run.current) return true;
  bool one_warp = mark.who == Who::Thread || mark.who == Who::Warp;
  return one_warp && mark.thread / WARP == run.current / WARP && mark.warp_syncs < run.warp_syncs[run.current / WARP];
}

// The readers of a cell, with the running thread added.
Mark add_reader(const Mark& readers, bool shared) {
  Mark now = mark_now();
  if (readers.who == Who::Nobody || is_before(readers, shared)) return now;
  if (readers.who == Who::Grid || readers.block != run.block) {
    now.who = Who::Grid;
  } else if (readers.who == Who::Block || readers.thread / WARP != run.current / WARP) {
    now.who = Who::Block;
  } else {
    now.who = Who::Warp;
  }
  return now;
}

void touch(Cell& cell, bool write, bool shared, uintptr_t address, size_t bytes, void* instruction) {
  if (!is_before(cell.writer, shared)) {
    fault("race with a write", write, address, bytes, instruction);
  } else if (write && !is_before(cell.readers, shared)) {
    fault("race with a read", write, address, bytes, instruction);
  }
  if (write) {
    cell.writer = mark_now();
    cell.readers = Mark{};
  } else {
    cell.readers = add_reader(cell.readers, shared);
  }
}

void touch_words(uintptr_t address, size_t bytes, bool write, bool shared, void* instruction) {
  uintptr_t end = address + bytes;
  while (address < end) {
    Word& word = word_of(address);
    uintptr_t word_end = std::min(end, (address | 3) + 1);
    bool whole = word_end - address == 4;
    if (word.in_flight) fault("the target of a cp.async that was not waited for", write, address, bytes, instruction);
    if (!whole && !word.split) {
      splits.push_back({word.cell, word.cell, word.cell, word.cell});
      word.split = (uint32_t)splits.size();
    }
    if (!word.split) {
      touch(word.cell, write, shared, address, bytes, instruction);
    } else {
      for (uintptr_t byte = address; byte < word_end; byte++) {
        touch(splits[word.split - 1][byte & 3], write, shared, address, bytes, instruction);
      }
    }
    address = word_end;
  }
}

}  // namespace

void race_launch() {
  pages.clear();
  last_page = nullptr;
  splits.clear();
  dl_iterate_phdr(find_module, run.kernel->function);
}

// Shared memory of the block before is other memory; marks of it do not count, but copies on their way would.
void race_block() {}

static void check_access(const void* pointer, size_t bytes, bool write, void* instruction) {
  if (!run.active || bytes == 0) return;
  uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  if (is_own(address)) return;
  bool shared = in_dynamic(address) || in_static(address);
  if (shared) {
    if (in_dynamic(address) && !in_dynamic(address + bytes - 1)) fault("out of bounds", write, address, bytes, instruction);
  } else if (!write && address >= module.start && address < module.end) {
    return;  // constants of the kernels
  } else if (!in_allocation(address, bytes)) {
    fault("out of bounds of every allocation", write, address, bytes, instruction);
    return;
  }
  touch_words(address, bytes, write, shared, instruction);
}

void race_access(const void* address, size_t bytes, bool write) { check_access(address, bytes, write, nullptr); }

void race_copy(const void* pointer, size_t bytes, bool in_flight) {
  uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  for (uintptr_t at = address; at < address + bytes; at += 4) {
    Word& word = word_of(at);
    if (in_flight) {
      word.in_flight++;
    } else if (word.in_flight) {
      word.in_flight--;
    }
  }
}

void allow_memory(const void* start, size_t bytes) {
  uintptr_t from = reinterpret_cast<uintptr_t>(start);
  allowed[from] = from + bytes;
}

void forbid_memory(const void* start) { allowed.erase(reinterpret_cast<uintptr_t>(start)); }

static void check_aligned(const void* pointer, size_t bytes, bool write, void* instruction) {
  uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  if (run.active && address % bytes != 0 && !is_own(address)) fault("not aligned", write, address, bytes, instruction);
  check_access(pointer, bytes, write, instruction);
}

}  // namespace simt

// What the compiler calls. The unaligned ones are of types that promise no alignment, which no kernel should have.
#define SIMT_HOOKS(n)                                                                                                         \
  void __tsan_read##n(void* p) { simt::check_aligned(p, n, false, __builtin_return_address(0)); }                             \
  void __tsan_write##n(void* p) { simt::check_aligned(p, n, true, __builtin_return_address(0)); }                             \
  void __tsan_unaligned_read##n(void* p) { simt::check_access(p, n, false, __builtin_return_address(0)); }                    \
  void __tsan_unaligned_write##n(void* p) { simt::check_access(p, n, true, __builtin_return_address(0)); }                    \
  void __tsan_volatile_read##n(void* p) { simt::check_aligned(p, n, false, __builtin_return_address(0)); }                    \
  void __tsan_volatile_write##n(void* p) { simt::check_aligned(p, n, true, __builtin_return_address(0)); }

extern "C" {
SIMT_HOOKS(1)
SIMT_HOOKS(2)
SIMT_HOOKS(4)
SIMT_HOOKS(8)
SIMT_HOOKS(16)
void __tsan_read_range(void* p, size_t n) { simt::check_access(p, n, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t n) { simt::check_access(p, n, true, __builtin_return_address(0)); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
}

#endif
