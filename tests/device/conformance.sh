#!/usr/bin/env bash
# conformance.sh [CHIPS] [OPTIONS..]: do all ops meet their reference on the device that LD_LIBRARY_PATH finds?
#
# CHIPS: one or more of `CAPABILITY:PRECISION`, separated by commas; else what faults.sh asks for (FAULT_CHIPS); else all below, which reach
# every kernel. The program is STAPES, else that of `cargo build`. The options are handed on to `stapes gradcheck`.
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
