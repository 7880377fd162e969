// main.cpp: runs one case of the device's own tests; selftest.sh says which there are and what each must say.
//
//   selftest right            kernels that are right: values, all orders
//   selftest driver           refusals of the driver, one after the other
//   selftest wrong NAME ..    one faulty kernel
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../driver/driver.h"

using driver::Address;

extern "C" {
int cuInit(unsigned);
int cuDriverGetVersion(int*);
int cuDeviceGetCount(int*);
int cuDevicePrimaryCtxRetain(void**, int);
int cuDevicePrimaryCtxRelease_v2(int);
int cuCtxSetCurrent(void*);
int cuCtxSynchronize();
int cuMemAlloc_v2(Address*, size_t);
int cuMemFree_v2(Address);
int cuMemAllocAsync(Address*, size_t, void*);
int cuMemHostAlloc(void**, size_t, unsigned);
int cuMemFreeHost(void*);
int cuMemcpyHtoD_v2(Address, const void*, size_t);
int cuMemcpyDtoH_v2(void*, Address, size_t);
int cuMemcpyHtoDAsync_v2(Address, const void*, size_t, void*);
int cuMemcpyDtoHAsync_v2(void*, Address, size_t, void*);
int cuMemcpyDtoDAsync_v2(Address, Address, size_t, void*);
int cuMemsetD8Async(Address, unsigned char, size_t, void*);
int cuMemsetD32Async(Address, unsigned, size_t, void*);
int cuModuleLoadData(void**, const void*);
int cuModuleUnload(void*);
int cuModuleGetFunction(void**, void*, const char*);
int cuFuncSetAttribute(void*, int, int);
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
int cuStreamCreate(void**, unsigned);
int cuStreamDestroy_v2(void*);
int cuStreamSynchronize(void*);
int cuStreamWaitEvent(void*, void*, unsigned);
int cuStreamBeginCapture_v2(void*, int);
int cuStreamEndCapture(void*, void**);
int cuGraphInstantiateWithFlags(void**, void*, unsigned long long);
int cuGraphLaunch(void*, void*);
int cuGraphDestroy(void*);
int cuGraphExecDestroy(void*);
int cuEventCreate(void**, unsigned);
int cuEventRecord(void*, void*);
int cuEventDestroy_v2(void*);
}

static int failures = 0;

static void expect(bool good, const char* what, int line) {
  if (good) return;
  printf("FAIL: line %d: %s\n", line, what);
  failures++;
}
#define EXPECT(condition) expect((condition), #condition, __LINE__)

// Launches a kernel of the selftest directly on the runner.
template <class... Arguments>
static long run(const char* name, unsigned blocks, unsigned threads, size_t dynamic, unsigned order, Arguments... arguments) {
  const simt::Kernel* kernel = simt::find(name);
  if (!kernel) {
    printf("FAIL: there is no kernel %s\n", name);
    exit(1);
  }
  void* pointers[] = {&arguments...};
  return simt::launch(*kernel, pointers, {blocks}, {threads}, dynamic, order);
}

// ---- Kernels that are right -----------------------------------------------------------------------------------------------------

static void right_warp_words(unsigned order) {
  std::vector<unsigned> out(64 * 8);
  EXPECT(run("warp_words", 1, 64, 0, order, out.data()) == 0);
  for (unsigned thread = 0; thread < 64; thread++) {
    unsigned lane = thread % 32;
    const unsigned* mine = &out[8 * thread];
    EXPECT(mine[0] == 50);
    EXPECT(mine[1] == 10 * (lane + 3 < 32 ? lane + 3 : lane));
    EXPECT(mine[2] == 10 * (lane >= 3 ? lane - 3 : lane));
    EXPECT(mine[3] == 10 * (lane ^ 16));
    EXPECT(mine[4] == 10 * (lane % 8 + 3 < 8 ? lane + 3 : lane));
    EXPECT(mine[5] == 0x49249249u);
    EXPECT(mine[6] == (lane < 16 ? 0xffffu : 1u));
    unsigned first_set = lane ? (unsigned)__builtin_ctz(lane) + 1 : 0;
    unsigned leading = lane ? (unsigned)__builtin_clz(lane) : 32;
    EXPECT(mine[7] == lane / 2 + first_set + leading);
  }
}

static float small_value(int seed) { return (float)((seed * 37 + 11) % 17 - 8) / 4.0f; }

static void right_products(unsigned order, const char* name, int depth) {
  std::vector<float> a((size_t)(16 * depth)), b((size_t)(depth * 8)), c(16 * 8);
  for (size_t i = 0; i < a.size(); i++) a[i] = small_value((int)i);
  for (size_t i = 0; i < b.size(); i++) b[i] = small_value((int)i + 5);
  for (size_t i = 0; i < c.size(); i++) c[i] = small_value((int)i + 9);
  std::vector<float> want = c;
  for (int row = 0; row < 16; row++) {
    for (int column = 0; column < 8; column++) {
      for (int k = 0; k < depth; k++) want[(size_t)(row * 8 + column)] += a[(size_t)(row * depth + k)] * b[(size_t)(k * 8 + column)];
    }
  }
  EXPECT(run(name, 1, 32, 0, order, (const float*)a.data(), (const float*)b.data(), c.data()) == 0);
  EXPECT(c == want);
}

static void right_cut(unsigned order) {
  std::vector<float> out(32);
  simt::options.nearest = false;
  run("many_small", 1, 32, 0, order, out.data());
  EXPECT(out[0] == 1.0f);
  simt::options.nearest = true;
  run("many_small", 1, 32, 0, order, out.data());
  EXPECT(out[0] > 1.0f);
  simt::options.nearest = false;
}

static std::vector<float> stages(unsigned order, int weak, int open, long* faults) {
  int tiles = 5;
  std::vector<float> x(64 * 5), out(3 * 64);
  for (size_t i = 0; i < x.size(); i++) x[i] = small_value((int)i);
  *faults = run("two_stages", 3, 64, 2 * 64 * 4, order, (const float*)x.data(), out.data(), tiles, weak, open);
  return out;
}

static void right_stages(simt::Copies copies) {
  simt::options.copies = copies;
  long faults = 0;
  std::vector<float> first = stages(0, 0, 0, &faults);
  EXPECT(faults == 0);
  EXPECT(std::isfinite(first[0]));
  for (unsigned order = 1; order < 8; order++) {
    EXPECT(stages(order, 0, 0, &faults) == first);
    EXPECT(faults == 0);
  }
  simt::options.copies = simt::Copies::ByOrder;
}

static void right_memory(unsigned order) {
  std::vector<unsigned char> bytes(128);
  std::vector<unsigned> sums(32);
  EXPECT(run("neighbour_bytes", 2, 64, 0, order, bytes.data(), sums.data()) == 0);
  EXPECT(bytes[63] == 63 && sums[0] == 0x03020100u && sums[31] == 0x3f3e3d3cu);
  std::vector<float> out(32);
  EXPECT(run("warp_memory", 1, 32, 0, order, out.data()) == 0);
  EXPECT(out[0] == 30.0f && out[31] == 1.0f);
}

static void test_right() {
  for (unsigned order : {0u, 1u, 2u, 77u}) {
    right_warp_words(order);
    right_products(order, "one_tf32", 8);
    right_products(order, "one_bf16", 16);
    right_cut(order);
    right_memory(order);
  }
  right_stages(simt::Copies::Late);
  right_stages(simt::Copies::Early);
}

// ---- Kernels that are wrong -----------------------------------------------------------------------------------------------------

static void wrong_values(const char* name) {
  long faults = 0;
  std::vector<float> good = stages(0, 0, 0, &faults);
  std::vector<float> seen;
  bool same = true;
  if (strcmp(name, "weak_wait") == 0) {
    simt::options.copies = simt::Copies::Late;
    same = stages(0, 1, 0, &faults) == good;
  } else if (strcmp(name, "open_loop") == 0) {
    simt::options.copies = simt::Copies::Early;
    same = stages(0, 0, 1, &faults) == good && stages(1, 0, 1, &faults) == good;
  } else {
    seen.resize(64);
    run("uninitialised", 1, 64, 64 * 4, 0, seen.data());
    same = !std::isnan(seen[0]) || !std::isnan(seen[1]);
  }
  printf("%s\n", same ? "the values are right" : "the values differ");
}

// Memory of exactly the sizes the kernels are told, so that a step beside it is one.
static long wrong_kernel(const std::string& name) {
  std::vector<float> x(64, 1.0f);
  float* out = static_cast<float*>(aligned_alloc(16, 256));
  memset(out, 0, 256);
  const float* from = x.data();
  simt::allow_memory(from, 256);
  simt::allow_memory(out, 256);
  if (name == "too_many_threads") return run("no_barrier", 1, 1025, 0, 0, out);
  if (name == "too_much_shared") return run("past_dynamic", 1, 64, (227 << 10) + 1, 0, out);
  if (name == "half_a_warp") return run("half_a_warp", 1, 16, 0, 0, out);
  if (name == "outside_mask" || name == "shuffle_is_no_sync") return run(name.c_str(), 1, 32, 0, 0, out);
  if (name == "misaligned_vector") return run("misaligned_vector", 1, 1, 0, 0, from, out);
  if (name == "deep_stack") return run("deep_stack", 1, 1, 0, 0, out, 5);
  if (name == "past_dynamic") return run("past_dynamic", 1, 64, 64 * 4, 0, out);
  if (name == "past_allocation") return run("past_allocation", 1, 64, 0, 0, out, 64);
  if (name == "blocks_write_one_cell" || name == "block_reads_another") return run(name.c_str(), 2, 32, 0, 0, out);
  if (name == "same_byte") return run("same_byte", 1, 64, 0, 0, reinterpret_cast<unsigned char*>(out));
  for (const char* two : {"misaligned_copy", "copy_never_waited", "read_before_wait", "read_before_allocation"}) {
    if (name == two) return run(two, 1, 32, 1024, 0, from, out);
  }
  return run(name.c_str(), 1, 64, 0, 0, out);
}

// ---- The driver -----------------------------------------------------------------------------------------------------------------

static std::string ptx(const char* name, const std::string& parameters, const char* version = "8.0", const char* body = "") {
  return std::string("// a comment\n.version ") + version + "\n.target sm_75\n.address_size 64\n.visible .entry " + name + "(\n" + parameters +
         ")\n.maxntid 64, 1, 1\n{\n" + body + "\tret;\n}\n";
}
static const char* OUT_ONLY = "\t.param .u64 p0\n";

static void* load(const std::string& text, const char* name, void** module) {
  void* function = nullptr;
  EXPECT(cuModuleLoadData(module, text.c_str()) == driver::SUCCESS);
  EXPECT(cuModuleGetFunction(&function, *module, name) == driver::SUCCESS);
  return function;
}

static int launch(void* function, unsigned blocks, unsigned threads, unsigned dynamic, void* stream, void* argument) {
  void* arguments[] = {argument};
  return cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, dynamic, stream, arguments, nullptr);
}

static void driver_memory(void* stream) {
  using namespace driver;
  Address memory = 0;
  float value = 0;
  float host[4] = {1, 2, 3, 4};
  EXPECT(cuMemAlloc_v2(&memory, 16) == SUCCESS && memory % 256 == 0);
  EXPECT(cuMemcpyDtoH_v2(&value, memory, 4) == SUCCESS && std::isnan(value));
  EXPECT(cuMemcpyHtoD_v2(memory + 4, host, 16) == INVALID_VALUE);
  EXPECT(cuMemcpyHtoDAsync_v2(memory, host, 17, stream) == INVALID_VALUE);
  EXPECT(cuMemcpyDtoHAsync_v2(host, memory + 16, 1, stream) == INVALID_VALUE);
  EXPECT(cuMemcpyDtoDAsync_v2(memory, memory - 1, 4, stream) == INVALID_VALUE);
  EXPECT(cuMemsetD8Async(memory, 0, 17, stream) == INVALID_VALUE);
  EXPECT(cuMemsetD32Async(memory, 0x3f800000u, 4, stream) == SUCCESS);
  EXPECT(cuMemcpyDtoHAsync_v2(host, memory, 16, stream) == SUCCESS && host[3] == 1.0f);
  EXPECT(cuMemFree_v2(memory + 4) == INVALID_VALUE);
  EXPECT(cuMemFree_v2(memory) == SUCCESS);
  EXPECT(cuMemFree_v2(memory) == INVALID_VALUE);
  EXPECT(cuMemAlloc_v2(&memory, (size_t)1 << 40) == OUT_OF_MEMORY);
  EXPECT(cuMemAlloc_v2(&memory, 0) == INVALID_VALUE);
  EXPECT(cuMemAllocAsync(&memory, 16, stream) == INVALID_VALUE);
  EXPECT(cuMemFreeHost(host) == INVALID_VALUE);
}

static void driver_modules() {
  using namespace driver;
  void* module = nullptr;
  void* function = nullptr;
  EXPECT(cuModuleLoadData(&module, "no PTX at all") == INVALID_PTX);
  EXPECT(cuModuleLoadData(&module, ".version 8.0\n.target sm_75\n") == INVALID_PTX);
  EXPECT(cuModuleLoadData(&module, ptx("no_barrier", OUT_ONLY, "8.7").c_str()) == SUCCESS);
  cuModuleUnload(module);
  EXPECT(cuModuleLoadData(&module, ptx("no_barrier", OUT_ONLY, "8.8").c_str()) == UNSUPPORTED_PTX_VERSION);
  EXPECT(cuModuleLoadData(&module, ptx("no_barrier", "\t.param .u64 p0,\n\t.param .u32 p1\n").c_str()) == SUCCESS);
  EXPECT(cuModuleGetFunction(&function, module, "nothing") == NOT_FOUND);
  EXPECT(cuModuleGetFunction(&function, module, "no_barrier") == NOT_FOUND);
  EXPECT(cuModuleUnload(module) == SUCCESS && cuModuleUnload(module) == INVALID_HANDLE);
  EXPECT(cuModuleLoadData(&module, ptx("no_barrier", "\t.param .u32 p0\n").c_str()) == SUCCESS);
  EXPECT(cuModuleGetFunction(&function, module, "no_barrier") == NOT_FOUND);
  cuModuleUnload(module);
  EXPECT(cuModuleLoadData(&module, ptx("not_linked", OUT_ONLY).c_str()) == SUCCESS);
  EXPECT(cuModuleGetFunction(&function, module, "not_linked") == NOT_FOUND);
  cuModuleUnload(module);
}

static void driver_launches(void* stream) {
  using namespace driver;
  void* module = nullptr;
  void* function = load(ptx("warp_memory", OUT_ONLY, "8.0", "\t.shared .align 4 .b8 values[128];\n"), "warp_memory", &module);
  Address memory = 0;
  EXPECT(cuMemAlloc_v2(&memory, 128) == SUCCESS);
  Address wrong = memory + 129;
  Address odd = memory + 2;
  EXPECT(launch(function, 1, 2048, 0, stream, &memory) == INVALID_VALUE);
  EXPECT(launch(function, 1, 65, 0, stream, &memory) == LAUNCH_OUT_OF_RESOURCES);
  EXPECT(launch(function, 0, 32, 0, stream, &memory) == INVALID_VALUE);
  EXPECT(launch(function, 1, 32, 0, stream, &wrong) == INVALID_VALUE);
  EXPECT(launch(function, 1, 32, 0, stream, &odd) == INVALID_VALUE);
  EXPECT(launch(function, 1, 32, (48 << 10) - 128, stream, &memory) == SUCCESS);
  EXPECT(launch(function, 1, 32, (48 << 10) - 127, stream, &memory) == INVALID_VALUE);
  EXPECT(cuFuncSetAttribute(function, 8, 227 << 10) == INVALID_VALUE);
  EXPECT(cuFuncSetAttribute(function, 8, (227 << 10) - 128) == SUCCESS);
  EXPECT(launch(function, 1, 32, 100 << 10, stream, &memory) == SUCCESS);
  EXPECT(launch(function, 1, 32, 0, module, &memory) == INVALID_HANDLE);
  cuMemFree_v2(memory);
  cuModuleUnload(module);
}

static void* begin_capture(void* stream) {
  EXPECT(cuStreamBeginCapture_v2(stream, 1) == driver::SUCCESS);
  return nullptr;
}

static void driver_captures(void* stream) {
  using namespace driver;
  void* graph = nullptr;
  void* module = nullptr;
  void* event = nullptr;
  void* other = nullptr;
  Address memory = 0;
  float value = 0;
  EXPECT(cuMemAlloc_v2(&memory, 128) == SUCCESS);
  EXPECT(cuEventCreate(&event, 0) == SUCCESS && cuStreamCreate(&other, 0) == SUCCESS);
  void* function = load(ptx("warp_memory", OUT_ONLY), "warp_memory", &module);

  EXPECT(cuStreamBeginCapture_v2(nullptr, 1) == CAPTURE_UNSUPPORTED);
  EXPECT(cuStreamEndCapture(stream, &graph) == INVALID_VALUE);
  // What breaks a capture: its end says so too.
  std::vector<std::pair<std::function<int()>, int>> breaks = {
      {[&] { return cuStreamSynchronize(stream); }, CAPTURE_UNSUPPORTED},
      {[&] { return cuCtxSynchronize(); }, CAPTURE_UNSUPPORTED},
      {[&] { Address more; return cuMemAlloc_v2(&more, 16); }, CAPTURE_UNSUPPORTED},
      {[&] { return cuMemcpyDtoH_v2(&value, memory, 4); }, CAPTURE_UNSUPPORTED},
      {[&] { return cuMemsetD8Async(memory, 0, 4, nullptr); }, CAPTURE_IMPLICIT},
      {[&] { return cuStreamWaitEvent(stream, event, 0); }, CAPTURE_ISOLATION},
  };
  cuEventRecord(event, other);
  for (auto& [call, error] : breaks) {
    begin_capture(stream);
    EXPECT(call() == error);
    EXPECT(cuStreamEndCapture(stream, &graph) == CAPTURE_INVALIDATED && graph == nullptr);
  }
  // A fork that nobody joins, and one that is joined.
  for (bool joined : {false, true}) {
    begin_capture(stream);
    EXPECT(cuEventRecord(event, stream) == SUCCESS && cuStreamWaitEvent(other, event, 0) == SUCCESS);
    EXPECT(launch(function, 1, 32, 0, other, &memory) == SUCCESS);
    EXPECT(cuEventRecord(event, other) == SUCCESS);
    if (joined) EXPECT(cuStreamWaitEvent(stream, event, 0) == SUCCESS);
    EXPECT(cuStreamEndCapture(stream, &graph) == (joined ? SUCCESS : CAPTURE_UNJOINED));
  }
  void* executable = nullptr;
  EXPECT(cuGraphInstantiateWithFlags(&executable, graph, 0) == SUCCESS && cuGraphDestroy(graph) == SUCCESS);
  // Capturing runs nothing; every launch of the graph does.
  EXPECT(cuMemcpyDtoH_v2(&value, memory, 4) == SUCCESS && std::isnan(value));
  for (int replay = 0; replay < 3; replay++) {
    EXPECT(cuMemsetD8Async(memory, 0, 128, stream) == SUCCESS);
    EXPECT(cuGraphLaunch(executable, stream) == SUCCESS && cuStreamSynchronize(stream) == SUCCESS);
    EXPECT(cuMemcpyDtoH_v2(&value, memory, 4) == SUCCESS && value == 30.0f);
  }
  EXPECT(cuGraphExecDestroy(executable) == SUCCESS && cuGraphExecDestroy(executable) == INVALID_HANDLE);
  cuEventDestroy_v2(event);
  cuStreamDestroy_v2(other);
  cuModuleUnload(module);
  cuMemFree_v2(memory);
}

// What a forked stream copies while the origin sets the source anew: `joined` says whether the origin waits for the copy first.
static float forked_copy(void* stream, bool joined, const char* order) {
  using namespace driver;
  void* graph = nullptr;
  void* executable = nullptr;
  void* other = nullptr;
  void* event = nullptr;
  Address memory = 0;
  float value = 0;
  if (order) setenv("SIMT_FORKS", order, 1);
  EXPECT(cuStreamCreate(&other, 0) == SUCCESS && cuEventCreate(&event, 0) == SUCCESS && cuMemAlloc_v2(&memory, 8) == SUCCESS);
  begin_capture(stream);
  cuMemsetD32Async(memory, 0x3f800000u, 1, stream);  // 1
  cuEventRecord(event, stream);
  cuStreamWaitEvent(other, event, 0);
  cuMemcpyDtoDAsync_v2(memory + 4, memory, 4, other);
  cuEventRecord(event, other);
  if (joined) cuStreamWaitEvent(stream, event, 0);
  cuMemsetD32Async(memory, 0x40000000u, 1, stream);  // 2
  cuStreamWaitEvent(stream, event, 0);
  EXPECT(cuStreamEndCapture(stream, &graph) == SUCCESS);
  EXPECT(cuGraphInstantiateWithFlags(&executable, graph, 0) == SUCCESS);
  EXPECT(cuGraphLaunch(executable, stream) == SUCCESS && cuStreamSynchronize(stream) == SUCCESS);
  EXPECT(cuMemcpyDtoH_v2(&value, memory + 4, 4) == SUCCESS);
  cuGraphDestroy(graph);
  cuGraphExecDestroy(executable);
  cuEventDestroy_v2(event);
  cuStreamDestroy_v2(other);
  cuMemFree_v2(memory);
  unsetenv("SIMT_FORKS");
  return value;
}

// The orders of a graph's forks must show a buffer that is used again too soon, and only such.
static void driver_forks(void* stream) {
  for (const char* order : {(const char*)nullptr, "early", "late"}) EXPECT(forked_copy(stream, true, order) == 1.0f);
  EXPECT(forked_copy(stream, false, nullptr) == 1.0f);
  EXPECT(forked_copy(stream, false, "early") == 1.0f);
  EXPECT(forked_copy(stream, false, "late") == 2.0f);
}

// Work that waits in its stream, as SIMT_STREAMS=late has it: what is not waited for is not there.
static void driver_late(void* stream) {
  using namespace driver;
  Address memory = 0;
  void* pinned = nullptr;
  EXPECT(cuMemAlloc_v2(&memory, 4) == SUCCESS && cuMemHostAlloc(&pinned, 4, 0) == SUCCESS);
  cuMemsetD32Async(memory, 0x3f800000u, 1, stream);
  cuMemcpyDtoHAsync_v2(pinned, memory, 4, stream);
  bool late = getenv("SIMT_STREAMS") != nullptr;
  EXPECT(std::isnan(*static_cast<float*>(pinned)) == late);
  EXPECT(cuStreamSynchronize(stream) == SUCCESS && *static_cast<float*>(pinned) == 1.0f);
  cuMemFreeHost(pinned);
  cuMemFree_v2(memory);
}

// A kernel that writes beside an allocation: told at the next synchronisation, and by every call after it.
static void driver_broken(void* stream) {
  using namespace driver;
  void* module = nullptr;
  void* function = load(ptx("past_allocation", "\t.param .u64 p0,\n\t.param .u32 p1\n"), "past_allocation", &module);
  Address memory = 0;
  int n = 64;
  EXPECT(cuMemAlloc_v2(&memory, 256) == SUCCESS);
  void* arguments[] = {&memory, &n};
  EXPECT(cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, stream, arguments, nullptr) == SUCCESS);
  int error = cuStreamSynchronize(stream);
  EXPECT(error == ILLEGAL_ADDRESS || error == LAUNCH_FAILED);
  EXPECT(cuMemsetD8Async(memory, 0, 4, stream) == error);
}

static void test_driver(bool leak) {
  using namespace driver;
  void* context = nullptr;
  void* stream = nullptr;
  int count = 0;
  EXPECT(cuDeviceGetCount(&count) == NOT_INITIALIZED);
  int started = cuInit(0);
  if (started == NO_DEVICE) {
    printf("no device\n");
    return;
  }
  EXPECT(started == SUCCESS);
  EXPECT(cuStreamCreate(&stream, 0) == INVALID_CONTEXT);
  EXPECT(cuDevicePrimaryCtxRetain(&context, 99) == INVALID_DEVICE);
  EXPECT(cuDevicePrimaryCtxRetain(&context, 0) == SUCCESS && cuCtxSetCurrent(context) == SUCCESS);
  EXPECT(cuStreamCreate(&stream, 0) == SUCCESS);
  if (getenv("SIMT_FAIL")) {
    Address memory = 0;
    EXPECT(cuMemAlloc_v2(&memory, 16) == SUCCESS);
    EXPECT(cuMemAlloc_v2(&memory, 16) == OUT_OF_MEMORY);
    return;
  }
  driver_memory(stream);
  driver_modules();
  driver_launches(stream);
  driver_captures(stream);
  driver_forks(stream);
  driver_late(stream);
  if (leak) return;
  if (getenv("SIMT_BREAK")) return driver_broken(stream);
  EXPECT(cuStreamDestroy_v2(stream) == SUCCESS && cuStreamDestroy_v2(stream) == INVALID_HANDLE);
  EXPECT(cuDevicePrimaryCtxRelease_v2(0) == SUCCESS && cuDevicePrimaryCtxRelease_v2(0) == INVALID_CONTEXT);
}

int main(int count, char** arguments) {
  std::string what = count > 1 ? arguments[1] : "";
  if (what == "right") test_right();
  if (what == "driver") test_driver(count > 2);
  if (what == "values") wrong_values(arguments[2]);
  if (what == "wrong") printf("%ld faults\n", wrong_kernel(arguments[2]));
  if (failures == 0) printf("done\n");
  return failures != 0;
}
