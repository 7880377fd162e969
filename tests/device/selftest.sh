#!/usr/bin/env bash
# selftest.sh [OUTDIR]: tests the checks of the software device. Prints one line for each failed test; the exit status is 0 if all passed.
#
# Each case names a build, the arguments, and a pattern of the expected output. `right` kernels must pass in all builds, `wrong` ones must be
# reported.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../target/selftest}
mkdir -p "$out"
for mode in plain race asan; do
  "$here/build.sh" "$out/$mode" $mode "$here/selftest" || exit 1
  sanitize=""
  [ $mode = asan ] && sanitize="-fsanitize=address,undefined"
  program=$out/$mode/selftest
  if [ ! "$program" -nt "$out/$mode/libcuda.so.1" ] || [ ! "$program" -nt "$here/selftest/main.cpp" ]; then
    g++ -std=c++17 -O1 -g1 $sanitize "$here/selftest/main.cpp" "$out/$mode/objects-$mode"/*.o -ldl -o "$program" || exit 1
  fi
done

cases=0
failed=0
# check MODE "ENVIRONMENT" "ARGUMENTS" "EXPECTED OUTPUT" (an extended regular expression)
check() {
  local output
  cases=$((cases + 1))
  output=$(env $2 "$out/$1/selftest" $3 2>&1; echo "exit $?")
  if grep -qE -- "$4" <<< "$output"; then return; fi
  failed=$((failed + 1))
  printf 'FAIL: %s build, %s %s: the output does not match "%s":\n%s\n' "$1" "$2" "$3" "$4" "$output" | head -20
}

for mode in plain race asan; do
  check $mode "" "right" "^done"
done

# The checks of the scheduler, which are the same in every build; here in the fastest.
check plain "" "wrong different_barriers" "threads at different barriers: thread 0 is at line 6 at .*wrong.cu:8, in kernel different_barriers, block \(0,0,0\), thread \(32,0,0\)"
check plain "" "wrong return_before_barrier" "a barrier not reached by 4 threads, which have returned at .*wrong.cu:15, in kernel"
check plain "" "wrong different_shuffles" "lanes in different warp operations: .* at .*wrong.cu:22, in kernel different_shuffles"
check plain "" "wrong lane_at_barrier" "a warp operation that other lanes of its mask never reach, .*wrong.cu:31"
check plain "" "wrong outside_mask" "a lane outside the mask it names at .*wrong.cu:34"
check plain "" "wrong half_a_warp" "mma without all 32 lanes at .*wrong.cu:40"
check plain "" "wrong misaligned_copy" "cp.async of 16 bytes is not aligned to them at .*wrong.cu:46"
check plain "" "wrong copy_never_waited" "a cp.async is never waited for; it was issued at .*wrong.cu:54"
check plain "" "wrong too_many_threads" "launch outside the limits, a block has 1 to 1024 threads"
check plain "" "wrong too_much_shared" "launch outside the limits, a block has at most 227 KB"
check plain "" "wrong wild_pointer" "access to address 0x.*, in kernel wild_pointer"
check plain "" "wrong deep_stack" "or a stack of more than 64 KB, in kernel deep_stack"
check plain "" "wrong past_dynamic" "access to address 0x.*, in kernel past_dynamic"
check plain "" "values uninitialised" "the values differ"
check plain "" "values weak_wait" "the values differ"
check plain "" "values open_loop" "the values differ"

# Races, bounds and alignment, by source line.
check race "" "wrong no_barrier" "race with a write: read of 4 bytes of shared memory at .*wrong.cu:88, in kernel no_barrier"
check race "" "wrong no_barrier_behind_readers" "race with a .*shared memory at .*wrong.cu:(96|97)"
check race "" "wrong blocks_write_one_cell" "race with a write: write of 4 bytes of global memory at .*wrong.cu:102, .* block \(1,0,0\)"
check race "" "wrong block_reads_another" "race with a .*global memory"
check race "" "wrong same_byte" "race with a write: write of 1 bytes of global memory"
check race "" "wrong shuffle_is_no_sync" "race with a write: read of 4 bytes of shared memory"
check race "" "wrong read_before_wait" "the target of a cp.async that was not waited for: read of 4 bytes of shared memory"
check race "" "wrong past_allocation" "out of bounds of every allocation: write of 4 bytes of global memory at .*wrong.cu:81"
check race "" "wrong read_before_allocation" "out of bounds of every allocation: read of 4 bytes"
check race "" "wrong misaligned_vector" "not aligned: read of 16 bytes"
check race "" "wrong past_dynamic" "out of bounds"
check race "" "values open_loop" "(race with a .*|the target of a cp.async that was not waited for): (read|write) of 4 bytes of shared memory"

check asan "" "wrong past_allocation" "heap-buffer-overflow"
check asan "" "wrong read_before_allocation" "heap-buffer-overflow|heap-buffer-underflow"
check asan "" "wrong misaligned_vector" "misaligned address"

for mode in plain race asan; do
  check $mode "SIMT_LEAKS=1" "driver" "^exit 0"
  check $mode "SIMT_LEAKS=1 SIMT_STREAMS=late" "driver" "^exit 0"
done
check plain "SIMT_LEAKS=1" "driver leak" "^exit 97"
check plain "SIMT_DEVICES=0" "driver" "^no device"
check plain "SIMT_FAIL=cuMemAlloc_v2:2:2" "driver" "^done"
check plain "SIMT_BREAK=1" "driver" "past_allocation wrote beside an allocation of 256 bytes"
check race "SIMT_BREAK=1" "driver" "faults in kernel past_allocation"

# Planted faults: detected, or reported as not detected.
output=$("$here/faults.sh" --list "$here/selftest/faults.txt" --kernels "$here/selftest" --out "$out/faults" "$here/selftest/check.sh" 2>&1)
for line in "no_wait: values found \(.*race found" "no_barrier: race found" "wrong_fragment: values found" "no_change: the expression changes nothing" \
  "harmless: values NOT FOUND" "5 faults planted, 2 not as listed"; do
  cases=$((cases + 1))
  grep -qE -- "$line" <<< "$output" && continue
  failed=$((failed + 1))
  printf 'FAIL: the output of faults.sh does not match "%s":\n%s\n' "$line" "$output"
done

echo "$cases checks of the software device, $failed failed"
[ $failed = 0 ]
