#!/usr/bin/env bash
# build.sh OUTDIR [plain|race|asan] [KERNELS]
#
# Builds OUTDIR/libcuda.so.1 from the runner, the substitute driver, and every *.cu of KERNELS (default: kernels/ of the repository).
# A program finds it through LD_LIBRARY_PATH=OUTDIR. Only what has changed is compiled. JOBS is the number of compilers that run at once.
#
#   plain  optimised, without checks of each access
#   race   checks every access for races, bounds and alignment (runner/race.cpp)
#   asan   AddressSanitizer and UBSan; a program that is not built with them needs LD_PRELOAD="$(g++ -print-file-name=libasan.so)"
#          and ASAN_OPTIONS=detect_leaks=0
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${1:?"usage: build.sh OUTDIR [plain|race|asan] [KERNELS]"}
mode=${2:-plain}
kernels=$(cd "${3:-$root/kernels}" && pwd)
objects=$out/objects-$mode
mkdir -p "$objects"
objects=$(cd "$objects" && pwd)

flags="-std=c++17 -fPIC -fvisibility=hidden -fno-strict-aliasing -ffp-contract=off -Wall -Wextra"
# With FMA, fmaf is one instruction instead of a call; the results are the same.
if grep -qw fma /proc/cpuinfo && grep -qw avx2 /proc/cpuinfo; then flags+=" -march=x86-64-v3"; fi
case $mode in
  plain) common="-O2" device="" runtime="" ;;
  # Line tables of version 4: binutils reports wrong file names from those of version 5.
  # The kernels call into race.cpp before every access; the flag must not reach the linker, which would add the sanitizer's own library.
  race) common="-O1 -g1 -gdwarf-4" device="-fsanitize=thread --param tsan-instrument-func-entry-exit=0" runtime="-O2 -DSIMT_RACE" ;;
  asan) common="-O1 -g1 -gdwarf-4 -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=undefined" device="" runtime="" ;;
  *) echo "build.sh: unknown mode $mode; use plain, race or asan" >&2; exit 2 ;;
esac
# Kernels use `#pragma unroll`, and have unused operands in some instantiations.
device+=" -Wno-unknown-pragmas -Wno-unused -Wno-attributes -Wno-subobject-linkage"

# The names of a kernel file's entries, from its preprocessed text, in which macros are expanded.
entries() {
  local text marks
  text=$(g++ $flags $device -E -P -x c++ -include "$here/runner/simt.h" -I"$root/kernels" "$1" | tr '\n' ' ')
  grep -oE 'extern "C" __attribute__\(\(noinline, used\)\) void +[A-Za-z0-9_]+ *\(' <<< "$text" |
    sed -E 's/.* ([A-Za-z0-9_]+) *\($/\1/' || true
  marks=$(grep -o '__attribute__((noinline, used))' <<< "$text" | wc -l)
  if [ "$marks" != "$(grep -oE 'extern "C" __attribute__\(\(noinline, used\)\) void +[A-Za-z0-9_]+ *\(' <<< "$text" | wc -l)" ]; then
    echo "build.sh: $1: every entry must be written extern \"C\" __global__ void [__launch_bounds__(..)] name(..)" >&2
    return 1
  fi
}

# compile_kernel FILE OBJECT. On a GPU each file is a module of its own; the namespace keeps equal helper names of two files apart.
compile_kernel() {
  local name names
  names=$(entries "$1")
  {
    echo '#include "simt.h"'
    echo 'namespace {'
    echo "#include \"$1\""
    echo '}'
    for name in $names; do echo "SIMT_KERNEL($name)"; done
  } > "${2%.o}.wrapper.cpp"
  g++ $flags $common $device -I"$here/runner" -I"$root/kernels" -c "${2%.o}.wrapper.cpp" -o "$2.new" && mv "$2.new" "$2"
}

compile_runtime() { g++ $flags $common $runtime -c "$1" -o "$2.new" && mv "$2.new" "$2"; }

# is_fresh OBJECT SOURCE..
is_fresh() {
  local source object=$1
  shift
  [ -f "$object" ] || return 1
  for source in "$@"; do [ "$object" -nt "$source" ] || return 1; done
}

# The headers of KERNELS that a file includes, directly or indirectly.
headers_of() {
  local name file
  for name in $(sed -nE 's/^#include "([^"]+\.cuh)".*/\1/p' "$1"); do
    file=$kernels/$name
    [ -f "$file" ] || file=$root/kernels/$name
    echo "$file"
    headers_of "$file"
  done
}

work=()
wanted=()
for source in "$here"/runner/*.cpp "$here"/driver/*.cpp; do
  object=$objects/runtime-$(basename "$(dirname "$source")")-$(basename "$source" .cpp).o
  wanted+=("$object")
  is_fresh "$object" "$source" "$here"/runner/*.h "$here"/driver/*.h "$here/build.sh" || work+=("compile_runtime $source $object")
done
shopt -s nullglob
for source in "$kernels"/*.cu; do
  object=$objects/kernel-$(basename "$source" .cu).o
  wanted+=("$object")
  is_fresh "$object" "$source" $(headers_of "$source" | sort -u) "$here"/runner/{simt,cuda_c}.h "$here/build.sh" ||
    work+=("compile_kernel $source $object")
done
for object in "$objects"/*.o; do
  case " ${wanted[*]} " in *" $object "*) ;; *) rm -f "$object" ;; esac
done

if [ ${#work[@]} -gt 0 ]; then
  export here root flags common device runtime
  export -f entries compile_kernel compile_runtime
  printf '%s\n' "${work[@]}" | xargs -P "${JOBS:-$(nproc)}" -I{} bash -c 'set -euo pipefail; {}'
fi
sanitize=$(grep -o -- '-fsanitize=address,undefined' <<< "$common" || true)
g++ -shared $sanitize -Wl,-soname,libcuda.so.1 -Wl,-Bsymbolic -Wl,-z,defs -o "$out/libcuda.so.1.new" "${wanted[@]}" -ldl
mv "$out/libcuda.so.1.new" "$out/libcuda.so.1"
