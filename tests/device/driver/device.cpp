// device.cpp: start, devices and their attributes, contexts, error texts, and what is told at exit.
#include "driver.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <thread>

namespace driver {

namespace {

// What chips of a compute capability have; the largest not above the asked one counts.
struct Chip {
  int capability;
  int multiprocessors;
  int shared_per_block;  // after opting in
  int shared_per_multiprocessor;
  int threads_per_multiprocessor;
};
const Chip CHIPS[] = {
    {75, 40, 64 << 10, 64 << 10, 1024},    {80, 108, 163 << 10, 164 << 10, 2048}, {86, 84, 99 << 10, 100 << 10, 1536},
    {87, 16, 163 << 10, 164 << 10, 1536},  {89, 128, 99 << 10, 100 << 10, 1536},  {90, 132, 227 << 10, 228 << 10, 2048},
    {100, 148, 227 << 10, 228 << 10, 2048}, {120, 170, 99 << 10, 100 << 10, 1536},
};

int capability() {
  const char* text = getenv("SIMT_CC");
  int major = 9;
  int minor = 0;
  if (text) sscanf(text, "%d.%d", &major, &minor);
  return 10 * major + minor;
}

const Chip& chip() {
  const Chip* found = &CHIPS[0];
  for (const Chip& one : CHIPS) {
    if (one.capability <= capability()) found = &one;
  }
  return *found;
}

thread_local Device* current = nullptr;

// SIMT_FAIL=NAME:COUNT:CODE
Result planned_failure(const char* name, unsigned count) {
  const char* plan = getenv("SIMT_FAIL");
  size_t length = strlen(name);
  if (!plan || strncmp(plan, name, length) != 0 || plan[length] != ':') return SUCCESS;
  unsigned at = 0;
  int code = 0;
  if (sscanf(plan + length + 1, "%u:%d", &at, &code) != 2 || at != count) return SUCCESS;
  return static_cast<Result>(code);
}

// Told when the program ends; the only way to see what was never given back.
struct AtExit {
  ~AtExit() {
    Driver& driver = the();
    if (setting("SIMT_TRACE", 0)) {
      for (const auto& [name, count] : driver.calls) fprintf(stderr, "simt driver: %6u %s\n", count, name.c_str());
    }
    if (!setting("SIMT_LEAKS", 0)) return;
    int contexts = 0;
    for (const Device& device : driver.devices) contexts += device.retained;
    size_t left = driver.memory.size() + driver.pinned.size() + driver.streams.size() + driver.events.size() +
                  driver.modules.size() + driver.graphs.size() + (size_t)contexts;
    if (left == 0) return;
    fprintf(stderr,
            "simt driver: never given back: %zu device allocations, %zu pinned, %zu streams, %zu events, %zu modules, %zu graphs, "
            "%d contexts\n",
            driver.memory.size(), driver.pinned.size(), driver.streams.size(), driver.events.size(), driver.modules.size(),
            driver.graphs.size(), contexts);
    fflush(nullptr);
    _Exit(97);
  }
};

const char* name_of(int error) {
  switch (error) {
    case SUCCESS: return "CUDA_SUCCESS";
    case INVALID_VALUE: return "CUDA_ERROR_INVALID_VALUE";
    case OUT_OF_MEMORY: return "CUDA_ERROR_OUT_OF_MEMORY";
    case NOT_INITIALIZED: return "CUDA_ERROR_NOT_INITIALIZED";
    case NO_DEVICE: return "CUDA_ERROR_NO_DEVICE";
    case INVALID_DEVICE: return "CUDA_ERROR_INVALID_DEVICE";
    case INVALID_CONTEXT: return "CUDA_ERROR_INVALID_CONTEXT";
    case INVALID_PTX: return "CUDA_ERROR_INVALID_PTX";
    case UNSUPPORTED_PTX_VERSION: return "CUDA_ERROR_UNSUPPORTED_PTX_VERSION";
    case INVALID_HANDLE: return "CUDA_ERROR_INVALID_HANDLE";
    case NOT_FOUND: return "CUDA_ERROR_NOT_FOUND";
    case NOT_READY: return "CUDA_ERROR_NOT_READY";
    case ILLEGAL_ADDRESS: return "CUDA_ERROR_ILLEGAL_ADDRESS";
    case LAUNCH_OUT_OF_RESOURCES: return "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES";
    case LAUNCH_FAILED: return "CUDA_ERROR_LAUNCH_FAILED";
    case CAPTURE_UNSUPPORTED: return "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
    case CAPTURE_INVALIDATED: return "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED";
    case CAPTURE_UNMATCHED: return "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED";
    case CAPTURE_UNJOINED: return "CUDA_ERROR_STREAM_CAPTURE_UNJOINED";
    case CAPTURE_ISOLATION: return "CUDA_ERROR_STREAM_CAPTURE_ISOLATION";
    case CAPTURE_IMPLICIT: return "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT";
    case CAPTURE_WRONG_THREAD: return "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD";
  }
  return nullptr;
}

}  // namespace

Driver& the() {
  static Driver* driver = new Driver;  // outlives everything that may call at exit
  return *driver;
}

static AtExit at_exit;

unsigned setting(const char* name, unsigned otherwise) {
  const char* text = getenv(name);
  return text && *text ? (unsigned)strtoul(text, nullptr, 10) : otherwise;
}

Result refuse(Result error, const char* format, ...) {
  va_list values;
  va_start(values, format);
  fprintf(stderr, "simt driver: ");
  vfprintf(stderr, format, values);
  fprintf(stderr, "\n");
  va_end(values);
  return error;
}

Call::Call(const char* name, Needs needs) : lock_(the().mutex) {
  unsigned count = ++the().calls[name];
  result_ = planned_failure(name, count);
  if (result_ != SUCCESS || needs == Nothing) return;
  if (!the().initialized) {
    result_ = NOT_INITIALIZED;
  } else if (needs == Context && !current) {
    result_ = refuse(INVALID_CONTEXT, "%s without a current context on this thread", name);
  }
}

int attribute(int which) {
  const Chip& one = chip();
  switch (which) {
    case 1: return 1024;                             // threads a block
    case 2: case 3: return 1024;                     // x, y of a block
    case 4: return 64;                               // z of a block
    case 5: return 0x7fffffff;                       // x of a grid
    case 6: case 7: return 65535;                    // y, z of a grid
    case 8: return 48 << 10;                         // shared memory a block, without opting in
    case 10: return 32;                              // warp
    case 12: case 82: return 65536;                  // registers a block, a multiprocessor
    case 13: return 1500000;                         // kHz
    case 16: return one.multiprocessors;
    case 36: return 2000000;                         // kHz of the memory
    case 37: return 5120;                            // bits of the memory bus
    case 38: return 50 << 20;                        // L2
    case 39: return one.threads_per_multiprocessor;
    case 41: return 1;                               // unified addressing
    case 75: return capability() / 10;
    case 76: return capability() % 10;
    case 81: return one.shared_per_multiprocessor;
    case 97: return one.shared_per_block;
    case 106: return 32;                             // blocks a multiprocessor
    case 115: return setting("SIMT_POOLS", 0) != 0;  // memory pools
    default: return 0;
  }
}

size_t total_memory() {
  const char* text = getenv("SIMT_MEMORY");
  return text ? strtoull(text, nullptr, 10) : (size_t)2 << 30;
}

Device* current_device() { return current; }

}  // namespace driver

using namespace driver;

// ---- Start --------------------------------------------------------------------------------------------------------------------

DRIVER_API cuInit(unsigned flags) {
  DRIVER_CALL(cuInit, Call::Nothing);
  if (flags != 0) return INVALID_VALUE;
  unsigned count = setting("SIMT_DEVICES", 1);
  if (count == 0) return NO_DEVICE;
  if (the().initialized) return SUCCESS;
  the().devices.resize(count);
  for (unsigned i = 0; i < count; i++) the().devices[i].index = (int)i;
  const char* copies = getenv("SIMT_COPIES");
  if (copies && strcmp(copies, "early") == 0) simt::options.copies = simt::Copies::Early;
  if (copies && strcmp(copies, "late") == 0) simt::options.copies = simt::Copies::Late;
  simt::options.nearest = setting("SIMT_NEAREST", 0) != 0;
  the().initialized = true;
  return SUCCESS;
}

DRIVER_API cuDriverGetVersion(int* version) {
  DRIVER_CALL(cuDriverGetVersion, Call::Nothing);
  *version = (int)setting("SIMT_DRIVER", 12080);
  return SUCCESS;
}

// Looks names up as the loader does; newer programs ask this way.
DRIVER_API cuGetProcAddress_v2(const char* name, void** function, int, unsigned long long, int* status) {
  DRIVER_CALL(cuGetProcAddress_v2, Call::Nothing);
  *function = nullptr;
  for (const char* ending : {"_v2", ""}) {
    if (!*function) *function = dlsym(RTLD_DEFAULT, (std::string(name) + ending).c_str());
  }
  if (status) *status = *function ? 0 : 1;
  return *function ? SUCCESS : NOT_FOUND;
}

DRIVER_API cuGetProcAddress(const char* name, void** function, int version, unsigned long long flags) {
  return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}

DRIVER_API cuGetErrorName(int error, const char** text) {
  DRIVER_CALL(cuGetErrorName, Call::Nothing);
  *text = name_of(error);
  return *text ? SUCCESS : INVALID_VALUE;
}

DRIVER_API cuGetErrorString(int error, const char** text) {
  DRIVER_CALL(cuGetErrorString, Call::Nothing);
  *text = name_of(error) ? "the software device says so" : nullptr;
  return *text ? SUCCESS : INVALID_VALUE;
}

// ---- Devices ------------------------------------------------------------------------------------------------------------------

static bool has_device(int device) { return device >= 0 && (size_t)device < the().devices.size(); }

DRIVER_API cuDeviceGetCount(int* count) {
  DRIVER_CALL(cuDeviceGetCount, Call::Initialized);
  *count = (int)the().devices.size();
  return SUCCESS;
}

DRIVER_API cuDeviceGet(int* device, int ordinal) {
  DRIVER_CALL(cuDeviceGet, Call::Initialized);
  if (!has_device(ordinal)) return INVALID_DEVICE;
  *device = ordinal;
  return SUCCESS;
}

DRIVER_API cuDeviceGetName(char* name, int size, int device) {
  DRIVER_CALL(cuDeviceGetName, Call::Initialized);
  if (!has_device(device)) return INVALID_DEVICE;
  snprintf(name, (size_t)size, "software device");
  return SUCCESS;
}

DRIVER_API cuDeviceGetUuid_v2(char* uuid, int device) {
  DRIVER_CALL(cuDeviceGetUuid_v2, Call::Initialized);
  if (!has_device(device)) return INVALID_DEVICE;
  memset(uuid, device, 16);
  return SUCCESS;
}

DRIVER_API cuDeviceGetUuid(char* uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }

DRIVER_API cuDeviceTotalMem_v2(size_t* bytes, int device) {
  DRIVER_CALL(cuDeviceTotalMem_v2, Call::Initialized);
  if (!has_device(device)) return INVALID_DEVICE;
  *bytes = total_memory();
  return SUCCESS;
}

DRIVER_API cuDeviceGetAttribute(int* value, int which, int device) {
  DRIVER_CALL(cuDeviceGetAttribute, Call::Initialized);
  if (!has_device(device)) return INVALID_DEVICE;
  *value = attribute(which);
  return SUCCESS;
}

// ---- Contexts -----------------------------------------------------------------------------------------------------------------

DRIVER_API cuDevicePrimaryCtxRetain(void** context, int device) {
  DRIVER_CALL(cuDevicePrimaryCtxRetain, Call::Initialized);
  if (!has_device(device)) return INVALID_DEVICE;
  the().devices[(size_t)device].retained++;
  *context = &the().devices[(size_t)device];
  return SUCCESS;
}

DRIVER_API cuDevicePrimaryCtxRelease_v2(int device) {
  DRIVER_CALL(cuDevicePrimaryCtxRelease_v2, Call::Initialized);
  if (!has_device(device)) return INVALID_DEVICE;
  Device& one = the().devices[(size_t)device];
  if (one.retained == 0) return refuse(INVALID_CONTEXT, "the primary context of device %d is released more often than retained", device);
  one.retained--;
  return SUCCESS;
}

DRIVER_API cuCtxGetCurrent(void** context) {
  DRIVER_CALL(cuCtxGetCurrent, Call::Initialized);
  *context = current;
  return SUCCESS;
}

DRIVER_API cuCtxSetCurrent(void* context) {
  DRIVER_CALL(cuCtxSetCurrent, Call::Initialized);
  current = static_cast<Device*>(context);
  return SUCCESS;
}

DRIVER_API cuCtxGetDevice(int* device) {
  DRIVER_CALL(cuCtxGetDevice);
  *device = current->index;
  return SUCCESS;
}

// How the host waits; it never does here.
DRIVER_API cuCtxSetFlags(unsigned) {
  DRIVER_CALL(cuCtxSetFlags);
  return SUCCESS;
}

DRIVER_API cuCtxSynchronize() {
  DRIVER_CALL(cuCtxSynchronize);
  if (Result error = refuse_in_capture("cuCtxSynchronize")) return error;
  return drain_all();
}

DRIVER_API cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  DRIVER_CALL(cuMemGetInfo_v2);
  *total = total_memory();
  *free_bytes = *total - current->used;
  return SUCCESS;
}
