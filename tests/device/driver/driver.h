// driver.h: what the files of the substitute driver share.
//
// A libcuda.so.1 over the runner: the functions of the driver API that cudarc calls, each checked more strictly than a real driver
// would. What a program must not do is refused with the error a real driver gives (or would give later, by crashing), and a
// sentence on standard error that begins with "simt driver:".
//
// Environment:
//   SIMT_ORDER     order of threads: forward, reverse, a seed; else launches take turns with the orders 0, 1, 2, 3
//   SIMT_COPIES    early or late: when cp.async land; else by the order
//   SIMT_NEAREST   1: matrix units round to nearest instead of cutting
//   SIMT_STREAMS   late: work waits in its stream until something waits for it, which shows missing synchronisation
//   SIMT_FORKS     early or late: graphs run what was captured in forked streams as soon, or as late, as they may; else in the order
//                  of the capture. A buffer used on both sides of a fork without a join between shows as other results.
//   SIMT_DEVICES   number of devices, default 1
//   SIMT_CC        compute capability, default 9.0
//   SIMT_MEMORY    bytes of device memory, default 2 GiB
//   SIMT_DRIVER    driver version as cuDriverGetVersion has it, default 12080
//   SIMT_POOLS     1: the device has memory pools (cuMemAllocAsync), default 0
//   SIMT_FAIL      NAME:COUNT:CODE: that call of that function fails with this error code
//   SIMT_LEAKS     1: exit with status 97 if anything was not given back
//   SIMT_TRACE     1: count the calls; 2: and tell every launch
#pragma once

#ifndef SIMT_RUNTIME
#define SIMT_RUNTIME
#endif
#include "../runner/simt.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace driver {

enum Result : int {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_CONTEXT = 201,
  INVALID_PTX = 218,
  UNSUPPORTED_PTX_VERSION = 222,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  LAUNCH_OUT_OF_RESOURCES = 701,
  LAUNCH_FAILED = 719,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_UNMATCHED = 903,
  CAPTURE_UNJOINED = 904,
  CAPTURE_ISOLATION = 905,
  CAPTURE_IMPLICIT = 906,
  CAPTURE_WRONG_THREAD = 908,
};

using Address = unsigned long long;
// A piece of work in a stream or a graph.
using Work = std::function<Result()>;

struct Device {
  int index = 0;
  size_t used = 0;
  int retained = 0;
};

struct Function {
  std::string name;
  const simt::Kernel* kernel = nullptr;
  std::vector<unsigned> parameter_sizes;  // from the PTX
  unsigned static_shared = 0;
  unsigned max_threads = 1024;
  unsigned dynamic_limit = 48 << 10;
};

struct Module {
  std::map<std::string, Function> functions;
};

struct Capture;

struct Event {
  double milliseconds = -1;          // when it was recorded
  struct Stream* stream = nullptr;   // where it was recorded last
  size_t position = 0;               // in that stream's work
  Capture* capture = nullptr;        // recorded inside this capture
  std::vector<size_t> before;        // then: nodes that whoever waits for it waits for
};

struct Stream {
  std::deque<Work> queue;      // not run yet; only with SIMT_STREAMS=late
  size_t submitted = 0;        // pieces of work ever put in
  size_t finished = 0;         // and run
  Capture* capture = nullptr;  // the capture it takes part in
  size_t captured = 0;         // pieces it gave to that capture
  size_t joined = 0;           // of which the origin has waited for
  std::vector<size_t> before;  // nodes of that capture which its next piece depends on
};

// A piece of captured work.
struct Node {
  Work work;
  size_t fork;                 // the stream it was captured in, by its place among the capture's streams; 0 is the origin
  std::vector<size_t> before;  // the nodes it waits for, by number
};

struct Capture {
  Stream* origin = nullptr;
  std::vector<Stream*> streams;
  std::vector<Node> nodes;
  int mode = 0;
  const void* thread = nullptr;
  bool invalid = false;
};

// In an order that heeds what each node waits for.
struct Graph {
  std::vector<Node> nodes;
};

struct Allocation {
  size_t bytes = 0;
  Device* device = nullptr;
};

// All of the driver's memory. One lock guards it.
struct Driver {
  std::recursive_mutex mutex;
  bool initialized = false;
  std::vector<Device> devices;
  std::map<Address, Allocation> memory;
  std::map<const void*, size_t> pinned;
  std::set<void*> modules;
  std::set<void*> streams;
  std::set<void*> events;
  std::set<void*> graphs;
  std::vector<std::unique_ptr<Capture>> captures;
  Stream legacy;
  Result broken = SUCCESS;  // what a launch did; every later call says it, as on a real device
  unsigned launches = 0;
  std::map<std::string, unsigned> calls;
};
Driver& the();

// Held during every call: takes the lock, counts, and makes the call fail where SIMT_FAIL says so.
class Call {
 public:
  enum Needs { Nothing, Initialized, Context };
  explicit Call(const char* name, Needs needs = Context);
  // What the function must return at once, or SUCCESS.
  Result result() const { return result_; }

 private:
  std::lock_guard<std::recursive_mutex> lock_;
  Result result_ = SUCCESS;
};

// Begins every function of the API.
#define DRIVER_CALL(name, ...)                \
  driver::Call call(#name, ##__VA_ARGS__);    \
  if (call.result()) return call.result()

#define DRIVER_API extern "C" __attribute__((visibility("default"))) int

// Says why, and returns the error.
Result refuse(Result error, const char* format, ...) __attribute__((format(printf, 2, 3)));

Device* current_device();
size_t total_memory();
// A device attribute by its number in the driver API.
int attribute(int which);
constexpr int SHARED_PER_BLOCK_OPT_IN = 97;
unsigned setting(const char* name, unsigned otherwise);

// ---- memory.cpp ---------------------------------------------------------------------------------------------------------------
bool in_memory(Address address, size_t bytes);
// In an allocation, or just after its end.
bool is_pointer(Address address);
bool is_pinned(const void* address, size_t bytes);
// Did anyone write beside an allocation?
Result check_guards(const char* after);

// ---- stream.cpp ---------------------------------------------------------------------------------------------------------------
Stream* stream_of(void* handle);
// Runs, queues or captures a piece of work.
Result submit(Stream* stream, Work work);
Result drain(Stream* stream);
Result drain_all();
// Calls that wait for the device or allocate must not happen while this thread captures; they break the capture.
Result refuse_in_capture(const char* what);

// ---- ptx.cpp ------------------------------------------------------------------------------------------------------------------
Result read_ptx(const std::string& text, Module& module);

}  // namespace driver
