#!/usr/bin/env bash
# Everything that a GPU can tell about stapes, in one call of less than ten minutes: bash benches/gpu/run.sh
# Needs target/release/stapes and a Python with PyTorch. Writes measured.jsonl, log.txt and results-CHIP-DATE.md to ${OUT:-benches/gpu/out}.
# A part that fails is told of in the table and does not end the others. Exit status 0: every part went well.
set -u
cd "$(dirname "$0")/../.." || exit
here=benches/gpu
out=${OUT:-$here/out}
stapes=${STAPES:-target/release/stapes}
python=${PYTHON:-python3}
mkdir -p "$out" || exit
measured=$out/measured.jsonl
rm -f "$measured" "$out"/results-*.md
exec 2> >(tee "$out/log.txt" >&2)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export STAPES_CACHE=$work/clips TORCHINDUCTOR_CACHE_DIR=$work/inductor PYTHONUNBUFFERED=1

begin=$(date +%s)
until_second() { export DEADLINE=$((begin + $1)); } # for the parts that follow, whatever their own limits
part() { "$python" "$here/record.py" "$measured" "$@"; } # PART LIMIT --key A=B .. -- COMMAND

# 1. Chip and driver; every kernel loads.
until_second 60
part gpu 10 -- nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem,power.limit,memory.total --format=csv
part devices 20 -- "$stapes" devices --json

# 2. What the chip can do at most.
part probe 30 -- "$python" "$here/probe.py"

# 3. Right before fast. Beside it, on the other cores, PyTorch compiles what is timed later.
until_second 210
part warm 100 -- "$python" "$here/torch_steps.py" --warm --seconds 98 --limit 60 &
warm=$!
for precision in f32 tf32 bf16; do
  part conformance 20 --key precision=$precision -- "$stapes" gradcheck --device cuda --precision $precision --json
done

sanitizer() { # its path, if it is anywhere
  command -v compute-sanitizer && return
  local packages
  mapfile -t packages < <("$python" -c 'import site; [print(f"{p}/nvidia") for p in site.getsitepackages()]' 2> /dev/null)
  find -L /usr/local/cuda*/bin /usr/local/cuda*/compute-sanitizer /opt/nvidia "${packages[@]}" \
    -name compute-sanitizer -type f -perm -u+x 2> /dev/null | head -n 1
}
tool=$(sanitizer)
if [ -n "$tool" ]; then
  part sanitizer 35 --key tool=memcheck precision=f32 -- "$tool" --tool memcheck --error-exitcode 9 \
    "$stapes" train --device cuda --model "$here/small.toml" --epochs 1 --batch 256 --runs "$work" --name memcheck --quiet
  for precision in f32 tf32; do
    part sanitizer 25 --key tool=racecheck precision=$precision -- "$tool" --tool racecheck --error-exitcode 9 \
      "$stapes" bench "$here/small.toml" --device cuda --precision $precision --batch 4 --quick
  done
else
  part sanitizer 5 --key tool=none -- echo '{"missing": "compute-sanitizer is not on this machine"}'
fi
wait $warm

# 4. From here on nothing else runs. Whole steps and their kernels.
now=$(($(date +%s) - begin))
until_second $((now + 125))
steps() { # NETWORK VARIANT BATCH PRECISION
  local quick=()
  case $1-$3 in custom128-9-256 | shrink256-9-256) quick=(--quick) ;; esac
  part steps 15 --key network="$1" variant="$2" batch="$3" precision="$4" -- \
    "$stapes" bench "$1" --variant "$2" --device cuda --batch "$3" --precision "$4" --json "${quick[@]}"
}
for batch in 32 256 1; do
  for precision in f32 tf32 bf16; do
    steps custom32-8 'do' $batch $precision
    steps custom64-8 'do' $batch $precision
    steps custom128-9 bn $batch $precision
    steps shrink256-9 bn $batch $precision
  done
done

# 5. A short training on the built-in recordings, on the GPU and on the processor.
now=$(($(date +%s) - begin))
until_second $((now + 45))
train() { # DEVICE PRECISION LIMIT
  part train "$3" --key device="$1" precision="$2" -- "$stapes" train --epochs 2 --device "$1" --precision "$2" \
    --runs "$work" --name "$1-$2" --json --quiet
}
train cuda f32 15
train cuda tf32 10
train cpu f32 30

# 6. The same steps in PyTorch, as long as the time allows.
now=$(($(date +%s) - begin))
until_second 560
part torch 565 -- "$python" "$here/torch_steps.py" --seconds $((555 - now)) --limit 45

"$python" "$here/table.py" "$out"
