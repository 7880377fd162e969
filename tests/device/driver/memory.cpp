// memory.cpp: allocations, copies and memsets, every one checked against what was allocated.
#include "driver.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace driver {

namespace {

// Around every allocation there is a strip of known bytes; AddressSanitizer has strips of its own.
#ifdef __SANITIZE_ADDRESS__
constexpr size_t GUARD = 0;
#else
constexpr size_t GUARD = 256;
#endif
constexpr size_t ALIGNMENT = 256;  // as cuMemAlloc promises

unsigned char* bytes_at(Address address) { return reinterpret_cast<unsigned char*>(address); }

size_t rounded(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

Result allocate(Address* address, size_t bytes) {
  Device* device = current_device();
  if (bytes == 0) return refuse(INVALID_VALUE, "an allocation of no bytes");
  if (bytes > total_memory() || device->used + bytes > total_memory()) return OUT_OF_MEMORY;
  void* whole = nullptr;
  // Under AddressSanitizer the size stays as it is, so that its strip begins at the last byte.
  size_t inner = GUARD ? rounded(bytes) : bytes;
  if (posix_memalign(&whole, ALIGNMENT, inner + 2 * GUARD) != 0) return OUT_OF_MEMORY;
  simt::poison(whole, inner + 2 * GUARD);
  *address = reinterpret_cast<Address>(whole) + GUARD;
  the().memory[*address] = {bytes, device};
  device->used += bytes;
  simt::allow_memory(bytes_at(*address), bytes);
  return SUCCESS;
}

Result give_back(Address address) {
  auto found = the().memory.find(address);
  if (found == the().memory.end()) return refuse(INVALID_VALUE, "free of an address that was not allocated");
  Result guards = check_guards("a free");
  found->second.device->used -= found->second.bytes;
  simt::forbid_memory(bytes_at(address));
  free(bytes_at(address) - GUARD);
  the().memory.erase(found);
  return guards;
}

bool is_poison(const unsigned char* start, size_t offset, size_t bytes) {
  const unsigned char* pattern = reinterpret_cast<const unsigned char*>(&simt::POISON);
  for (size_t i = offset; i < offset + bytes; i++) {
    if (start[i] != pattern[i % 4]) return false;
  }
  return true;
}

Result check_copy(const char* what, Address address, size_t bytes) {
  if (in_memory(address, bytes)) return SUCCESS;
  return refuse(INVALID_VALUE, "%s of %zu bytes outside every allocation", what, bytes);
}

// The checks are made again when the work runs: by then the memory may have been freed.
Result to_device(Address to, const void* from, size_t bytes) {
  if (Result error = check_copy("copy to the device", to, bytes)) return error;
  memcpy(bytes_at(to), from, bytes);
  return SUCCESS;
}

Result to_host(void* to, Address from, size_t bytes) {
  if (Result error = check_copy("copy from the device", from, bytes)) return error;
  memcpy(to, bytes_at(from), bytes);
  return SUCCESS;
}

Result within_device(Address to, Address from, size_t bytes) {
  if (Result error = check_copy("copy within the device", to, bytes)) return error;
  if (Result error = check_copy("copy within the device", from, bytes)) return error;
  if (to < from + bytes && from < to + bytes) return refuse(INVALID_VALUE, "copy within the device between ranges that overlap");
  memcpy(bytes_at(to), bytes_at(from), bytes);
  return SUCCESS;
}

template <class Value>
Result fill(Address to, Value value, size_t count) {
  if (to % sizeof value != 0) return refuse(INVALID_VALUE, "memset of %zu-byte values at an address that is not aligned", sizeof value);
  if (Result error = check_copy("memset", to, count * sizeof value)) return error;
  Value* values = reinterpret_cast<Value*>(to);
  std::fill(values, values + count, value);
  return SUCCESS;
}

// Pageable memory is read or written before the call returns, pinned memory when the stream gets there.
Result submit_copy(Stream* stream, const void* host, size_t bytes, Work work) {
  if (Result error = submit(stream, std::move(work))) return error;
  bool waits = !stream->capture && !is_pinned(host, bytes);
  return waits ? drain(stream) : SUCCESS;
}

}  // namespace

bool in_memory(Address address, size_t bytes) {
  auto after = the().memory.upper_bound(address);
  if (after == the().memory.begin()) return false;
  --after;
  return address + bytes <= after->first + after->second.bytes;
}

bool is_pointer(Address address) { return in_memory(address, 0); }

bool is_pinned(const void* address, size_t bytes) {
  auto after = the().pinned.upper_bound(address);
  if (after == the().pinned.begin()) return false;
  --after;
  return static_cast<const char*>(address) + bytes <= static_cast<const char*>(after->first) + after->second;
}

Result check_guards(const char* after) {
  if (GUARD == 0) return SUCCESS;
  for (const auto& [address, allocation] : the().memory) {
    const unsigned char* whole = bytes_at(address) - GUARD;
    size_t tail = GUARD + allocation.bytes;
    if (!is_poison(whole, 0, GUARD) || !is_poison(whole, tail, GUARD + rounded(allocation.bytes) - allocation.bytes)) {
      simt::poison(bytes_at(address) - GUARD, GUARD);
      return refuse(ILLEGAL_ADDRESS, "%s wrote beside an allocation of %zu bytes", after, allocation.bytes);
    }
  }
  return SUCCESS;
}

}  // namespace driver

using namespace driver;

// ---- Allocations --------------------------------------------------------------------------------------------------------------

DRIVER_API cuMemAlloc_v2(Address* address, size_t bytes) {
  DRIVER_CALL(cuMemAlloc_v2);
  if (Result error = refuse_in_capture("cuMemAlloc")) return error;
  return allocate(address, bytes);
}

DRIVER_API cuMemFree_v2(Address address) {
  DRIVER_CALL(cuMemFree_v2);
  if (Result error = refuse_in_capture("cuMemFree")) return error;
  if (address == 0) return SUCCESS;
  Result late = drain_all();
  Result error = give_back(address);
  return error ? error : late;
}

DRIVER_API cuMemAllocAsync(Address* address, size_t bytes, void* stream) {
  DRIVER_CALL(cuMemAllocAsync);
  if (!setting("SIMT_POOLS", 0)) return refuse(INVALID_VALUE, "cuMemAllocAsync on a device without memory pools");
  if (!stream_of(stream)) return INVALID_HANDLE;
  if (stream_of(stream)->capture) return refuse(CAPTURE_UNSUPPORTED, "allocations are not captured here");
  return allocate(address, bytes);
}

DRIVER_API cuMemFreeAsync(Address address, void* stream) {
  DRIVER_CALL(cuMemFreeAsync);
  if (!setting("SIMT_POOLS", 0)) return refuse(INVALID_VALUE, "cuMemFreeAsync on a device without memory pools");
  if (!stream_of(stream)) return INVALID_HANDLE;
  if (stream_of(stream)->capture) return refuse(CAPTURE_UNSUPPORTED, "frees are not captured here");
  if (!the().memory.count(address)) return refuse(INVALID_VALUE, "free of an address that was not allocated");
  return submit(stream_of(stream), [=] { return give_back(address); });
}

static Result allocate_pinned(void** address, size_t bytes) {
  if (bytes == 0) return INVALID_VALUE;
  if (posix_memalign(address, 4096, bytes) != 0) return OUT_OF_MEMORY;
  simt::poison(*address, bytes);
  the().pinned[*address] = bytes;
  return SUCCESS;
}

DRIVER_API cuMemHostAlloc(void** address, size_t bytes, unsigned) {
  DRIVER_CALL(cuMemHostAlloc);
  return allocate_pinned(address, bytes);
}

DRIVER_API cuMemAllocHost_v2(void** address, size_t bytes) {
  DRIVER_CALL(cuMemAllocHost_v2);
  return allocate_pinned(address, bytes);
}

DRIVER_API cuMemFreeHost(void* address) {
  DRIVER_CALL(cuMemFreeHost);
  if (!the().pinned.count(address)) return refuse(INVALID_VALUE, "free of an address that is no pinned memory");
  Result late = drain_all();
  the().pinned.erase(address);
  free(address);
  return late;
}

// ---- Copies -------------------------------------------------------------------------------------------------------------------

DRIVER_API cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* handle) {
  DRIVER_CALL(cuMemcpyHtoDAsync_v2);
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  if (Result error = check_copy("copy to the device", to, bytes)) return error;
  return submit_copy(stream, from, bytes, [=] { return to_device(to, from, bytes); });
}

DRIVER_API cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* handle) {
  DRIVER_CALL(cuMemcpyDtoHAsync_v2);
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  if (Result error = check_copy("copy from the device", from, bytes)) return error;
  return submit_copy(stream, to, bytes, [=] { return to_host(to, from, bytes); });
}

DRIVER_API cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* handle) {
  DRIVER_CALL(cuMemcpyDtoDAsync_v2);
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  if (Result error = check_copy("copy within the device", to, bytes)) return error;
  if (Result error = check_copy("copy within the device", from, bytes)) return error;
  return submit(stream, [=] { return within_device(to, from, bytes); });
}

// Without a stream: on the legacy one, which waits for all others.
DRIVER_API cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) {
  DRIVER_CALL(cuMemcpyHtoD_v2);
  if (Result error = refuse_in_capture("cuMemcpyHtoD")) return error;
  if (Result error = drain_all()) return error;
  return to_device(to, from, bytes);
}

DRIVER_API cuMemcpyDtoH_v2(void* to, Address from, size_t bytes) {
  DRIVER_CALL(cuMemcpyDtoH_v2);
  if (Result error = refuse_in_capture("cuMemcpyDtoH")) return error;
  if (Result error = drain_all()) return error;
  return to_host(to, from, bytes);
}

// ---- Memsets ------------------------------------------------------------------------------------------------------------------

DRIVER_API cuMemsetD8Async(Address to, unsigned char value, size_t count, void* handle) {
  DRIVER_CALL(cuMemsetD8Async);
  if (!stream_of(handle)) return INVALID_HANDLE;
  if (Result error = check_copy("memset", to, count)) return error;
  return submit(stream_of(handle), [=] { return fill<unsigned char>(to, value, count); });
}

DRIVER_API cuMemsetD32Async(Address to, unsigned value, size_t count, void* handle) {
  DRIVER_CALL(cuMemsetD32Async);
  if (!stream_of(handle)) return INVALID_HANDLE;
  if (Result error = check_copy("memset", to, count * 4)) return error;
  return submit(stream_of(handle), [=] { return fill<unsigned>(to, value, count); });
}

DRIVER_API cuMemsetD8_v2(Address to, unsigned char value, size_t count) {
  DRIVER_CALL(cuMemsetD8_v2);
  if (Result error = refuse_in_capture("cuMemsetD8")) return error;
  if (Result error = drain_all()) return error;
  return fill<unsigned char>(to, value, count);
}
