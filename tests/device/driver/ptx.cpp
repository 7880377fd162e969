// ptx.cpp: reads PTX for what a driver would know of it: versions, entries, parameters, shared memory. The code that runs is the
// same source compiled by g++ and linked in.
#include "driver.h"

#include <cstdio>
#include <cstdlib>

namespace driver {

namespace {

// The newest PTX a driver of CUDA x.y reads, as 10 * major + minor.
int newest_ptx(int driver_version) {
  int major = driver_version / 1000;
  int minor = driver_version % 1000 / 10;
  if (major >= 13) return 90 + minor;
  if (major < 12) return 70 + minor;
  // CUDA 12.6 brought no new version.
  return 80 + (minor >= 6 ? minor - 1 : minor);
}

// Bytes of one declaration such as ".param .align 4 .b8 name[12]" or ".shared .b32 name".
unsigned declared_bytes(const std::string& declaration) {
  struct Type {
    const char* name;
    unsigned bytes;
  };
  static const Type TYPES[] = {{"8 ", 1}, {"16 ", 2}, {"32 ", 4}, {"64 ", 8}};
  unsigned unit = 0;
  for (const char* kind : {".b", ".u", ".s", ".f"}) {
    for (const Type& type : TYPES) {
      if (declaration.find(std::string(kind) + type.name) != std::string::npos) unit = type.bytes;
    }
  }
  size_t bracket = declaration.find('[');
  unsigned count = bracket == std::string::npos ? 1 : (unsigned)strtoul(declaration.c_str() + bracket + 1, nullptr, 10);
  return unit * count;
}

// Declarations that begin with `word` between two places of the text.
std::vector<std::string> declarations(const std::string& text, const char* word, size_t from, size_t to) {
  std::vector<std::string> found;
  for (size_t at = text.find(word, from); at < to; at = text.find(word, at + 1)) {
    size_t end = text.find_first_of(",;\n)", at);
    found.push_back(text.substr(at, end - at));
  }
  return found;
}

// Shared memory the kernels declare; the dynamic array is `.extern` and has no size.
unsigned shared_bytes(const std::string& text, size_t from, size_t to) {
  unsigned bytes = 0;
  for (size_t at = text.find(".shared ", from); at < to; at = text.find(".shared ", at + 1)) {
    size_t line = text.rfind('\n', at) + 1;
    std::string before = text.substr(line, at - line);
    // Declarations are first in their line; "ld.shared" and the dynamic array do not.
    if (before.find_first_not_of(" \t") != std::string::npos) continue;
    bytes += declared_bytes(text.substr(at, text.find_first_of(";=", at) - at));
  }
  return bytes;
}

bool read_number(const std::string& text, const char* format, size_t at, unsigned* a, unsigned* b) {
  return at != std::string::npos && sscanf(text.c_str() + at, format, a, b) >= 1;
}

Result check_versions(const std::string& text) {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned target = 0;
  if (!read_number(text, ".version %u.%u", text.find(".version "), &major, &minor)) return refuse(INVALID_PTX, "PTX without .version");
  if (!read_number(text, ".target sm_%u", text.find(".target "), &target, &target)) return refuse(INVALID_PTX, "PTX without .target");
  unsigned newest = (unsigned)newest_ptx((int)setting("SIMT_DRIVER", 12080));
  if (10 * major + minor > newest) {
    return refuse(UNSUPPORTED_PTX_VERSION, "PTX of version %u.%u, and this driver reads up to %u.%u", major, minor, newest / 10, newest % 10);
  }
  unsigned device_major = 9;
  unsigned device_minor = 0;
  const char* capability = getenv("SIMT_CC");
  if (capability) sscanf(capability, "%u.%u", &device_major, &device_minor);
  if (target > 10 * device_major + device_minor) {
    return refuse(INVALID_PTX, "PTX for sm_%u, and this device is sm_%u%u", target, device_major, device_minor);
  }
  return SUCCESS;
}

}  // namespace

Result read_ptx(const std::string& text, Module& module) {
  if (Result error = check_versions(text)) return error;
  const std::string word = ".entry ";
  size_t first = text.find(word);
  if (first == std::string::npos) return refuse(INVALID_PTX, "PTX without an entry");
  // Functions that are not inlined and tables are before the first entry; their shared memory belongs to whoever calls them.
  unsigned common = shared_bytes(text, 0, first);
  for (size_t at = first; at != std::string::npos;) {
    size_t next = text.find(word, at + 1);
    size_t end = next == std::string::npos ? text.size() : next;
    size_t open = text.find('(', at);
    size_t body = text.find('{', at);
    if (open >= end || body >= end) return refuse(INVALID_PTX, "PTX with an entry that has no body");
    Function function;
    size_t name = at + word.size();
    function.name = text.substr(name, text.find_first_of("( \t\n", name) - name);
    if (open < body) {
      for (const std::string& one : declarations(text, ".param ", open, text.find(')', open))) {
        function.parameter_sizes.push_back(declared_bytes(one));
      }
    }
    function.static_shared = common + shared_bytes(text, body, end);
    unsigned x = 0;
    unsigned y = 1;
    size_t limit = text.find(".maxntid ", at);
    if (limit < body && read_number(text, ".maxntid %u, %u", limit, &x, &y)) function.max_threads = x * y;
    function.dynamic_limit = (48u << 10) - function.static_shared;
    function.kernel = simt::find(function.name.c_str());
    module.functions[function.name] = function;
    at = next;
  }
  return SUCCESS;
}

}  // namespace driver
