#!/usr/bin/env bash
# judge.sh: for faults.sh, are the right kernels right? Links the build named by FAULT_DEVICE with main.cpp.
set -e
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
g++ -std=c++17 "$here/main.cpp" "$FAULT_DEVICE"/objects-*/*.o -ldl -o "$FAULT_DEVICE/judge"
"$FAULT_DEVICE/judge" right
