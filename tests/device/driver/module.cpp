// module.cpp: modules, functions, and launches.
#include "driver.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace driver {

namespace {

enum FunctionAttribute { MAX_THREADS = 0, STATIC_SHARED = 1, CONSTANT = 2, LOCAL = 3, REGISTERS = 4, MAX_DYNAMIC_SHARED = 8 };

// A launch as it was asked for. The values of the arguments are taken then, also for a graph.
struct Launch {
  const Function* function;
  simt::Size3 grid;
  simt::Size3 block;
  unsigned dynamic_bytes;
  std::vector<uint64_t> arguments;
};

unsigned next_order() {
  const char* order = getenv("SIMT_ORDER");
  if (!order || !*order) return the().launches++ % 4;
  if (strcmp(order, "forward") == 0) return 0;
  if (strcmp(order, "reverse") == 0) return 1;
  return (unsigned)strtoul(order, nullptr, 10);
}

// Every pointer must be absent or lie in an allocation, or just after one, and be aligned for what it points to.
Result check_pointers(const Launch& launch) {
  const simt::Kernel& kernel = *launch.function->kernel;
  for (unsigned i = 0; i < kernel.argument_count; i++) {
    unsigned alignment = kernel.argument_alignments[i];
    Address address = launch.arguments[i];
    if (alignment == 0 || address == 0) continue;
    if (!is_pointer(address)) return refuse(INVALID_VALUE, "argument %u of %s points to no device memory", i, kernel.name);
    if (address % alignment != 0) return refuse(INVALID_VALUE, "argument %u of %s is not aligned to %u bytes", i, kernel.name, alignment);
  }
  return SUCCESS;
}

Result run_launch(const Launch& launch) {
  const simt::Kernel& kernel = *launch.function->kernel;
  if (Result error = check_pointers(launch)) return error;
  std::vector<uint64_t> values = launch.arguments;
  std::vector<void*> pointers;
  for (uint64_t& value : values) pointers.push_back(&value);
  unsigned order = next_order();
  auto start = std::chrono::steady_clock::now();
  long faults = simt::launch(kernel, pointers.data(), launch.grid, launch.block, launch.dynamic_bytes, order);
  if (setting("SIMT_TRACE", 0) >= 2) {
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fprintf(stderr, "simt driver: %s<<<(%u,%u,%u), (%u,%u,%u), %u>>> order %u, %.4f s\n", kernel.name, launch.grid.x, launch.grid.y,
            launch.grid.z, launch.block.x, launch.block.y, launch.block.z, launch.dynamic_bytes, order, seconds);
  }
  if (faults) return refuse(LAUNCH_FAILED, "%ld faults in kernel %s", faults, kernel.name);
  return check_guards(kernel.name);
}

Result check_shape(const Function& function, simt::Size3 grid, simt::Size3 block, unsigned dynamic_bytes) {
  const char* name = function.name.c_str();
  unsigned long long threads = (unsigned long long)block.x * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return refuse(INVALID_VALUE, "launch of %s with an empty grid", name);
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return refuse(INVALID_VALUE, "launch of %s with too large a grid", name);
  if (threads == 0 || threads > 1024 || block.z > 64) return refuse(INVALID_VALUE, "launch of %s with %llu threads a block", name, threads);
  if (threads > function.max_threads) {
    return refuse(LAUNCH_OUT_OF_RESOURCES, "launch of %s with %llu threads, and its launch bounds say %u", name, threads, function.max_threads);
  }
  if (dynamic_bytes > function.dynamic_limit) {
    return refuse(INVALID_VALUE, "launch of %s with %u bytes of dynamic shared memory, and it may have %u; above 48 KB it must be asked for "
                  "with cuFuncSetAttribute", name, dynamic_bytes, function.dynamic_limit);
  }
  return SUCCESS;
}

// Do the PTX and the linked kernel take the same arguments?
Result check_signature(const Function& function) {
  const char* name = function.name.c_str();
  if (!function.kernel) return refuse(NOT_FOUND, "%s is in the PTX but not linked into the software device; build it again", name);
  const simt::Kernel& kernel = *function.kernel;
  if (function.parameter_sizes.size() != kernel.argument_count) {
    return refuse(NOT_FOUND, "%s has %zu parameters in the PTX and %u in the kernel file; make the PTX again", name,
                  function.parameter_sizes.size(), kernel.argument_count);
  }
  for (unsigned i = 0; i < kernel.argument_count; i++) {
    if (function.parameter_sizes[i] == kernel.argument_sizes[i]) continue;
    return refuse(NOT_FOUND, "parameter %u of %s has %u bytes in the PTX and %u in the kernel file; make the PTX again", i, name,
                  function.parameter_sizes[i], kernel.argument_sizes[i]);
  }
  return SUCCESS;
}

}  // namespace

}  // namespace driver

using namespace driver;

DRIVER_API cuModuleLoadData(void** handle, const void* image) {
  DRIVER_CALL(cuModuleLoadData);
  if (Result error = refuse_in_capture("cuModuleLoadData")) return error;
  auto module = std::make_unique<Module>();
  if (Result error = read_ptx(static_cast<const char*>(image), *module)) return error;
  *handle = module.release();
  the().modules.insert(*handle);
  return SUCCESS;
}

DRIVER_API cuModuleLoadDataEx(void** handle, const void* image, unsigned, void*, void*) { return cuModuleLoadData(handle, image); }

DRIVER_API cuModuleUnload(void* handle) {
  DRIVER_CALL(cuModuleUnload);
  if (!the().modules.count(handle)) return refuse(INVALID_HANDLE, "a module is unloaded that does not exist");
  Result late = drain_all();
  the().modules.erase(handle);
  delete static_cast<Module*>(handle);
  return late;
}

DRIVER_API cuModuleGetFunction(void** handle, void* where, const char* name) {
  DRIVER_CALL(cuModuleGetFunction);
  if (!the().modules.count(where)) return INVALID_HANDLE;
  auto& functions = static_cast<Module*>(where)->functions;
  auto found = functions.find(name);
  if (found == functions.end()) return NOT_FOUND;
  if (Result error = check_signature(found->second)) return error;
  *handle = &found->second;
  return SUCCESS;
}

DRIVER_API cuFuncGetAttribute(int* value, int which, void* handle) {
  DRIVER_CALL(cuFuncGetAttribute);
  const Function& function = *static_cast<Function*>(handle);
  switch (which) {
    case MAX_THREADS: *value = (int)function.max_threads; return SUCCESS;
    case STATIC_SHARED: *value = (int)function.static_shared; return SUCCESS;
    case MAX_DYNAMIC_SHARED: *value = (int)function.dynamic_limit; return SUCCESS;
    default: *value = 0; return SUCCESS;  // registers and local memory: only ptxas knows
  }
}

DRIVER_API cuFuncSetAttribute(void* handle, int which, int value) {
  DRIVER_CALL(cuFuncSetAttribute);
  Function& function = *static_cast<Function*>(handle);
  if (which != MAX_DYNAMIC_SHARED) return SUCCESS;
  int most = attribute(SHARED_PER_BLOCK_OPT_IN) - (int)function.static_shared;
  if (value < 0 || value > most) {
    return refuse(INVALID_VALUE, "%s cannot have %d bytes of dynamic shared memory, a block of this device has %d left", function.name.c_str(),
                  value, most);
  }
  function.dynamic_limit = (unsigned)value;
  return SUCCESS;
}

// As many blocks as threads and shared memory allow; registers are not known here.
DRIVER_API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* handle, int block_size, size_t dynamic_bytes) {
  DRIVER_CALL(cuOccupancyMaxActiveBlocksPerMultiprocessor);
  const Function& function = *static_cast<Function*>(handle);
  if (block_size <= 0) return INVALID_VALUE;
  size_t shared = function.static_shared + dynamic_bytes + 1024;
  int by_shared = (int)((size_t)attribute(81) / shared);
  int by_threads = attribute(39) / block_size;
  *blocks = by_shared < by_threads ? by_shared : by_threads;
  return SUCCESS;
}

DRIVER_API cuLaunchKernel(void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                          unsigned block_z, unsigned dynamic_bytes, void* where, void** parameters, void** extra) {
  DRIVER_CALL(cuLaunchKernel);
  Stream* stream = stream_of(where);
  if (!stream) return INVALID_HANDLE;
  if (!handle || extra) return refuse(INVALID_VALUE, "a launch needs a function, and arguments as a list of pointers");
  Launch launch;
  launch.function = static_cast<Function*>(handle);
  launch.grid = {grid_x, grid_y, grid_z};
  launch.block = {block_x, block_y, block_z};
  launch.dynamic_bytes = dynamic_bytes;
  if (Result error = check_shape(*launch.function, launch.grid, launch.block, dynamic_bytes)) return error;
  const simt::Kernel& kernel = *launch.function->kernel;
  for (unsigned i = 0; i < kernel.argument_count; i++) {
    uint64_t value = 0;
    memcpy(&value, parameters[i], kernel.argument_sizes[i]);
    launch.arguments.push_back(value);
  }
  if (Result error = check_pointers(launch)) return error;
  return submit(stream, [launch] { return run_launch(launch); });
}
