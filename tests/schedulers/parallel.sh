#!/bin/sh
# A study under GNU parallel with two workers that are killed at random moments: the table must be that of one process.
#
#     tests/schedulers/parallel.sh PATH-OF-STAPES [KILLS]
#
# It skips with a message where GNU parallel is missing (Debian: apt install parallel).
set -eu
stapes=$(realpath "${1:?usage: parallel.sh PATH-OF-STAPES [KILLS]}")
kills=${2:-20}
if ! parallel --version 2> /dev/null | grep -q "^GNU parallel"; then
    echo "skipped: GNU parallel is not installed"
    exit 0
fi
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export STAPES_CACHE="$work/cache"
. "$here/study.sh"
cd "$work"
make_study "$work"
"$stapes" study run study.toml --runs whole --quiet
finished() { ls queue/*/eval-test.json 2> /dev/null | wc -l; }
for kill in $(seq "$kills"); do
    before=$(finished)
    "$stapes" study commands study.toml --runs queue > runs.txt
    [ -s runs.txt ] || break
    setsid parallel --will-cite --jobs 2 < runs.txt > /dev/null 2>&1 &
    session=$!
    # Between no time and about the time of an epoch.
    sleep "$(awk -v seed="$kill" 'BEGIN { srand(seed * 7919); printf "%.2f", 0.2 + 3 * rand() }')"
    # The jobs have process groups of their own.
    pkill -KILL --session "$session" || true
    wait "$session" 2> /dev/null || true
    [ "$(finished)" -ge "$before" ] || { echo "a finished run is lost"; exit 1; }
done
echo "killed $kill times; $(finished) runs were finished then"
"$stapes" study commands study.toml --runs queue | parallel --will-cite --jobs 2 > /dev/null 2>&1
same_table "$stapes" whole queue
