#!/usr/bin/env bash
# conformance.sh [CHIPS] [OPTIONS..]: compares all operations with their references on the device that LD_LIBRARY_PATH finds.
#
# CHIPS: a comma-separated list of `CAPABILITY:PRECISION`. The default is FAULT_CHIPS, which faults.sh sets, or else the list below, which reaches
# every kernel. STAPES is the program; the default is that of `cargo build`. OPTIONS are passed on to `stapes gradcheck`.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
chips=${1:-${FAULT_CHIPS:-8.9:f32,9.0:f32,9.0:tf32,9.0:bf16}}
[ $# -gt 0 ] && shift
failed=0
for chip in ${chips//,/ }; do
  echo "$chip:"
  SIMT_LEAKS=1 SIMT_CC=${chip%:*} "${STAPES:-$here/../../target/debug/stapes}" gradcheck --device cuda --precision "${chip#*:}" "$@" || failed=1
done
exit $failed
