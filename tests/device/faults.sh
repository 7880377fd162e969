#!/usr/bin/env bash
# faults.sh [--list FILE] [--kernels DIR] [--only NAME,..] [--fast] [--table FILE] [--out DIR] COMMAND..
#
# Plants one fault at a time into a copy of the kernels and runs COMMAND against the software device that is built from the copy. COMMAND is
# a test of the kernels: it must pass without a fault, and fail with each fault. It finds the device through LD_LIBRARY_PATH, the folder of
# the build in FAULT_DEVICE, and the compute capabilities to test in FAULT_CHIPS. The PTX inside the program need not change: the device
# reads only its signatures.
#
# A line of the list (tests/device/faults.txt):   NAME | FILE | BUILDS | CHIPS | SED
#   NAME    a star after the name marks a fault that --fast plants
#   FILE    a file of kernels/
#   BUILDS  the builds that must make COMMAND fail: values (the plain one), race, or both as values,race
#   CHIPS   the compute capabilities and precisions at which COMMAND must fail; COMMAND may test these only
#   SED     an extended sed expression that plants the fault; an expression that changes nothing is an error
# A line `% CHIP FILE ..` lists kernels that are not used on that chip, so that a fault in a header need not be compiled into them.
# --table writes a table of what detected each fault. With --only or --fast, the kernels without a fault are tested only on the chips of the faults.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
list=$here/faults.txt
kernels=$here/../../kernels
out=$here/../../target/faults
only=""
table=""
fast=""
while [[ ${1:-} == --* ]]; do
  case $1 in
    --list) list=$2 ;;
    --kernels) kernels=$2 ;;
    --only) only=$2 ;;
    --out) out=$2 ;;
    --table) table=$2 ;;
    --fast)
      fast=yes
      shift
      continue
      ;;
    *) echo "faults.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
[ $# -gt 0 ] || { echo "faults.sh: give the command that tests the kernels" >&2; exit 2; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
kernels=$(cd "$kernels" && pwd)

# run_command BUILD DIR COMMAND..: returns the status of the command; its output goes to DIR/output
run_command() {
  local dir=$2
  shift 2
  LD_LIBRARY_PATH="$dir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" FAULT_DEVICE=$dir timeout "${FAULT_SECONDS:-300}" "$@" > "$dir/output" 2>&1
}

mode_of() { if [ "$1" = values ]; then echo plain; else echo "$1"; fi; }

# The first finding in the output of the command: the sentence of the device without addresses, or the number of wrong results.
what_found() {
  local finding
  finding=$(grep -m1 -oE 'simt[a-z ]*: [^,]*' "$1" | sed -E 's/^simt[a-z ]*: //; s,/[^ ]*/,,g; s/ by thread .*//; s/0x[0-9a-f]+/0x../') ||
    finding=$(grep -m1 -oE '[0-9]+ of [0-9]+ tensors differ' "$1" | sed 's/ differ/ wrong/') || finding="other values"
  echo "$finding"
}

trim() { sed -E 's/^[[:space:]]+|[[:space:]]+$//g' <<< "$1"; }

# The faults to be planted, one a line.
names=()
files=()
all_builds=()
all_chips=()
expressions=()
declare -A unused
while IFS='|' read -r name file builds chips expression; do
  name=$(trim "$name")
  [ -n "$name" ] && [[ $name != \#* ]] || continue
  if [[ $name == %* ]]; then
    read -r _ chips file <<< "$name"
    unused[$chips]=$file
    continue
  fi
  [ -z "$fast" ] || [[ $name == *\* ]] || continue
  name=${name%\*}
  [ -z "$only" ] || [[ ,$only, == *,$name,* ]] || continue
  names+=("$name")
  files+=("$(trim "$file")")
  all_builds+=("$(trim "$builds")")
  all_chips+=("$(trim "$chips")")
  expressions+=("$(trim "$expression")")
done < "$list"

failed=0
for build in values race; do
  mode=$(mode_of $build)
  FAULT_CHIPS=""
  if [ -n "$only$fast" ]; then
    FAULT_CHIPS=$(for i in "${!names[@]}"; do
      [[ ${all_builds[i]} != *$build* ]] || tr ',' '\n' <<< "${all_chips[i]}"
    done | sort -u | paste -sd,)
    [ -n "$FAULT_CHIPS" ] || continue
  fi
  export FAULT_CHIPS
  "$here/build.sh" "$out/$mode" "$mode" "$kernels" || exit 1
  if ! run_command $build "$out/$mode" "$@"; then
    echo "faults.sh: the kernels fail without a fault in the $mode build:"
    tail -n 20 "$out/$mode/output"
    exit 1
  fi
done

rows=()
for i in "${!names[@]}"; do
  file=${files[i]}
  export FAULT_CHIPS=${all_chips[i]}
  rm -rf "$out/kernels"
  mkdir -p "$out/kernels"
  cp -p "$kernels"/*.cu "$out/kernels/"
  cp -p "$kernels"/*.cuh "$out/kernels/" 2> /dev/null
  if ! sed -E -i "${expressions[i]}" "$out/kernels/$file" || cmp -s "$kernels/$file" "$out/kernels/$file"; then
    echo "${names[i]}: the expression changes nothing in $file; write it anew"
    failed=$((failed + 1))
    continue
  fi
  line="${names[i]}:"
  row="| ${names[i]} | $file | ${all_chips[i]} |"
  for build in values race; do
    mode=$(mode_of "$build")
    if [[ ,${all_builds[i]}, != *,$build,* ]]; then
      row+=" |"
      continue
    fi
    # Objects that do not change are copied from the build without a fault.
    rm -rf "$out/planted-$mode"
    cp -a "$out/$mode" "$out/planted-$mode"
    for kernel in ${unused[${all_chips[i]}]:-}; do touch "$out/planted-$mode/objects-$mode/kernel-${kernel%.cu}.o"; done
    if ! "$here/build.sh" "$out/planted-$mode" "$mode" "$out/kernels" > "$out/planted-$mode/output" 2>&1; then
      found="DOES NOT COMPILE"
      failed=$((failed + 1))
    elif run_command "$build" "$out/planted-$mode" "$@"; then
      found="NOT FOUND"
      failed=$((failed + 1))
    else
      found="found ($(what_found "$out/planted-$mode/output"))"
    fi
    line+=" $build $found;"
    row+=" $(sed -E 's/^found \((.*)\)$/\1/' <<< "$found") |"
  done
  rows+=("$row")
  echo "$line"
done
if [ -n "$table" ]; then
  {
    echo "# What detected the faults planted in the kernels"
    echo
    echo "Made by \`tests/device/faults.sh --table\`; the faults are those of \`faults.txt\`. An empty field: that build need not detect the fault."
    echo
    echo "| fault | file | tested on | wrong values or abort | race build |"
    echo "|---|---|---|---|---|"
    printf '%s\n' "${rows[@]}"
  } > "$table"
fi
echo "${#names[@]} faults planted, $failed not as listed"
[ $failed = 0 ]
