#!/usr/bin/env bash
# faults.sh [--list FILE] [--kernels DIR] [--only NAME,..] [--fast] [--table FILE] [--out DIR] COMMAND..
#
# Plants one fault at a time into a copy of the kernels and runs COMMAND against the software device built of it. COMMAND is a
# test of the kernels: it must pass without a fault, and fail with each. It finds the device through LD_LIBRARY_PATH, the folder of
# the build in FAULT_DEVICE, and where to look in FAULT_CHIPS. The PTX a program carries need not change: the device reads only its
# signatures.
#
# A line of the list (tests/device/faults.txt):   NAME | FILE | BUILDS | CHIPS | SED
#   NAME    with a star behind it: one of the few that --fast plants
#   FILE    of kernels/
#   BUILDS  which builds must make COMMAND fail: values (the plain one), race, or both as values,race
#   CHIPS   where the fault must show; COMMAND may look there only
#   SED     an extended expression that plants the fault; one that changes nothing is an error, so that the list stays true
# And a line `% CHIP FILE ..`: these kernels are not used there, so a fault in a header need not be compiled into them.
# --table writes what found each fault. With --only or --fast the kernels without a fault are tried only where the faults are looked for.
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

# What judge's command said first of all: the device's sentence without addresses, else how many results were wrong.
what_found() {
  local said
  said=$(grep -m1 -oE 'simt[a-z ]*: [^,]*' "$1" | sed -E 's/^simt[a-z ]*: //; s,/[^ ]*/,,g; s/ by thread .*//; s/0x[0-9a-f]+/0x../') ||
    said=$(grep -m1 -oE '[0-9]+ of [0-9]+ tensors are farther' "$1" | sed 's/ are farther/ wrong/') || said="other values"
  echo "$said"
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
  if ! judge $build "$out/$mode" "$@"; then
    echo "faults.sh: the kernels fail without a fault in the $mode build:"
    tail -n 20 "$out/$mode/said"
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
    # Everything that did not change is taken over from the build without a fault.
    rm -rf "$out/planted-$mode"
    cp -a "$out/$mode" "$out/planted-$mode"
    for kernel in ${unused[${all_chips[i]}]:-}; do touch "$out/planted-$mode/objects-$mode/kernel-${kernel%.cu}.o"; done
    if ! "$here/build.sh" "$out/planted-$mode" "$mode" "$out/kernels" > "$out/planted-$mode/said" 2>&1; then
      found="DOES NOT COMPILE"
      failed=$((failed + 1))
    elif judge "$build" "$out/planted-$mode" "$@"; then
      found="NOT FOUND"
      failed=$((failed + 1))
    else
      found="found ($(what_found "$out/planted-$mode/said"))"
    fi
    line+=" $build $found;"
    row+=" $(sed -E 's/^found \((.*)\)$/\1/' <<< "$found") |"
  done
  rows+=("$row")
  echo "$line"
done
if [ -n "$table" ]; then
  {
    echo "# What found the faults planted in the kernels"
    echo
    echo "Made by \`tests/device/faults.sh --table\`; the faults are those of \`faults.txt\`. An empty field: not asked of that build."
    echo
    echo "| fault | file | looked for on | the values | the race build |"
    echo "|---|---|---|---|---|"
    printf '%s\n' "${rows[@]}"
  } > "$table"
fi
echo "${#names[@]} faults planted, $failed not as the list says"
[ $failed = 0 ]
