// copies.cpp: cp.async. The data land at the wait or at once, as the launch says; a fault that one of them hides the other shows.
#include "runner.h"

#include <cstdio>
#include <cstring>

namespace simt {

static void land(const Copy& copy) {
  race_copy(copy.to, copy.bytes, false);
  race_access(copy.to, copy.bytes, true);
  if (!run.early_copies) memcpy(copy.to, copy.from, copy.bytes);
}

void cp_async(void* shared, const void* global, unsigned bytes, Here here) {
  uintptr_t both = reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global);
  if (both % bytes != 0) {
    char text[64];
    snprintf(text, sizeof text, "cp.async of %u bytes is not aligned to them", bytes);
    die(text, here, run.current);
  }
  Fiber& fiber = run.fibers[run.current];
  fiber.here = here;
  race_access(global, bytes, false);
  race_access(shared, bytes, true);
  race_copy(shared, bytes, true);
  if (run.early_copies) memcpy(shared, global, bytes);
  fiber.copies.push_back({shared, global, bytes, fiber.group, here});
}

void cp_async_commit() { run.fibers[run.current].group++; }

void cp_async_wait(int groups_left) {
  Fiber& fiber = run.fibers[run.current];
  size_t kept = 0;
  for (const Copy& copy : fiber.copies) {
    if ((long)fiber.group - (long)copy.group > groups_left) {
      land(copy);
    } else {
      fiber.copies[kept++] = copy;
    }
  }
  fiber.copies.resize(kept);
}

void check_copies_waited() {
  const Fiber& fiber = run.fibers[run.current];
  if (!fiber.copies.empty()) die("a cp.async is never waited for; it was issued", fiber.copies[0].here, run.current);
}

}  // namespace simt
