#!/usr/bin/env bash
# faults.sh [--list FILE] [--kernels DIR] [--only NAME] [--out DIR] COMMAND..
#
# Plants one fault at a time into a copy of the kernels and runs COMMAND against the software device built of it. COMMAND is a
# test of the kernels: it must pass without a fault, and fail with each. It finds the device through LD_LIBRARY_PATH, and the
# folder of the build in FAULT_DEVICE. The PTX a program carries need not change: the device reads only its signatures.
#
# A line of the list (tests/device/faults.txt):   NAME | FILE | BUILDS | SED
#   FILE    of kernels/
#   BUILDS  which builds must make COMMAND fail: values (the plain one), race, or both as values,race
#   SED     an extended expression that plants the fault; one that changes nothing is an error, so that the list stays true
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
list=$here/faults.txt
kernels=$here/../../kernels
out=$here/../../target/faults
only=""
while [[ ${1:-} == --* ]]; do
  case $1 in
    --list) list=$2 ;;
    --kernels) kernels=$2 ;;
    --only) only=$2 ;;
    --out) out=$2 ;;
    *) echo "faults.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
[ $# -gt 0 ] || { echo "faults.sh: which command judges the kernels?" >&2; exit 2; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
kernels=$(cd "$kernels" && pwd)

# judge BUILD DIR COMMAND..: the command's status, its words in DIR/said
judge() {
  local dir=$2
  shift 2
  LD_LIBRARY_PATH="$dir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" FAULT_DEVICE=$dir timeout "${FAULT_SECONDS:-300}" "$@" > "$dir/said" 2>&1
}

mode_of() { if [ "$1" = values ]; then echo plain; else echo "$1"; fi; }

failed=0
for build in values race; do
  mode=$(mode_of $build)
  "$here/build.sh" "$out/$mode" "$mode" "$kernels" || exit 1
  if ! judge $build "$out/$mode" "$@"; then
    echo "faults.sh: the kernels fail without a fault in the $mode build:"
    tail -n 20 "$out/$mode/said"
    exit 1
  fi
done

planted=0
trim() { sed -E 's/^[[:space:]]+|[[:space:]]+$//g' <<< "$1"; }
while IFS='|' read -r name file builds expression; do
  name=$(trim "$name")
  [ -n "$name" ] && [[ $name != \#* ]] || continue
  [ -z "$only" ] || [ "$only" = "$name" ] || continue
  file=$(trim "$file")
  builds=$(trim "$builds")
  planted=$((planted + 1))
  rm -rf "$out/kernels"
  mkdir -p "$out/kernels"
  cp -p "$kernels"/*.cu "$out/kernels/"
  cp -p "$kernels"/*.cuh "$out/kernels/" 2> /dev/null
  if ! sed -E -i "$(trim "$expression")" "$out/kernels/$file" || cmp -s "$kernels/$file" "$out/kernels/$file"; then
    echo "$name: the expression changes nothing in $file; write it anew"
    failed=$((failed + 1))
    continue
  fi
  line="$name:"
  for build in ${builds//,/ }; do
    mode=$(mode_of "$build")
    # Everything that did not change is taken over from the build without a fault.
    rm -rf "$out/planted-$mode"
    cp -a "$out/$mode" "$out/planted-$mode"
    if ! "$here/build.sh" "$out/planted-$mode" "$mode" "$out/kernels" > "$out/planted-$mode/said" 2>&1; then
      line+=" $build DOES NOT COMPILE;"
      failed=$((failed + 1))
    elif judge "$build" "$out/planted-$mode" "$@"; then
      line+=" $build NOT FOUND;"
      failed=$((failed + 1))
    else
      line+=" $build found ($(grep -m1 -oE 'simt[a-z ]*: [^,]*' "$out/planted-$mode/said" || echo 'other values'));"
    fi
  done
  echo "$line"
done < "$list"
echo "$planted faults planted, $failed not as the list says"
[ $failed = 0 ]
