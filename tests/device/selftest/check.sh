#!/usr/bin/env bash
# check.sh: the command that selftest.sh gives to faults.sh. Links main.cpp with the build in FAULT_DEVICE and runs the `right` kernels.
set -e
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
g++ -std=c++17 "$here/main.cpp" "$FAULT_DEVICE"/objects-*/*.o -ldl -o "$FAULT_DEVICE/check"
"$FAULT_DEVICE/check" right
