#!/bin/sh
# A study under Slurm on one node: an array job, one task killed half-way, the array submitted again; the table must be that of one process.
#
#     tests/schedulers/slurm.sh PATH-OF-STAPES
#
# It starts its own munged, slurmctld and slurmd with a configuration in a temporary folder, and skips with a message where they are missing.
# Debian: apt install slurmd slurmctld slurm-client munge. It needs root, since slurmd does.
set -eu
stapes=$(realpath "${1:?usage: slurm.sh PATH-OF-STAPES}")
for program in munged slurmctld slurmd sbatch scancel squeue; do
    if ! command -v $program > /dev/null; then
        echo "skipped: $program is not installed"
        exit 0
    fi
done
if [ "$(id -u)" != 0 ]; then
    echo "skipped: slurmd needs root"
    exit 0
fi
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
cleanup() {
    for pid in slurmd slurmctld munged; do
        if [ -s "$work/$pid.pid" ]; then kill "$(cat "$work/$pid.pid")" 2> /dev/null || true; fi
    done
    rm -rf "$work"
}
trap cleanup EXIT
chmod 755 "$work"
host=$(hostname -s)
mkdir -p "$work/munge" "$work/state" "$work/spool"
dd if=/dev/urandom of="$work/munge/key" bs=64 count=1 2> /dev/null
chmod 600 "$work/munge/key"
munged --force --key-file "$work/munge/key" --socket "$work/munge/socket" --pid-file "$work/munged.pid" \
    --log-file "$work/munge/log" --seed-file "$work/munge/seed"
cat > "$work/slurm.conf" << EOF
ClusterName=study
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CryptoType=crypto/munge
SlurmUser=root
SlurmctldPort=26817
SlurmdPort=26818
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
export SLURM_CONF="$work/slurm.conf"
slurmctld
slurmd
for _ in $(seq 60); do
    sinfo --noheader --format=%T 2> /dev/null | grep -q idle && break
    sleep 1
done
sinfo --noheader --format=%T | grep -q idle || { cat "$work"/slurm*.log; echo "the node is not ready"; exit 1; }

export STAPES_CACHE="$work/cache"
. "$here/study.sh"
cd "$work"
make_study "$work"
"$stapes" study run study.toml --runs whole --quiet
"$stapes" study commands study.toml --runs array > runs.txt
lines=$(wc -l < runs.txt)
submit() {
    sbatch --parsable --array=1-"$lines" --output="$work/task-%a.log" --chdir="$work" \
        --wrap 'eval "$(sed -n "${SLURM_ARRAY_TASK_ID}p" runs.txt)"'
}
job=$(submit)
# A checkpoint says that the first task is half-way.
until ls array/*/last.safetensors > /dev/null 2>&1; do sleep 0.05; done
scancel --signal=KILL --full "${job}_1" || scancel "${job}_1"
while [ -n "$(squeue --noheader --job "$job" 2> /dev/null)" ]; do sleep 0.5; done
echo "after the first job: $("$stapes" study commands study.toml --runs array | wc -l) of $lines runs are not finished"
job=$(submit)
while [ -n "$(squeue --noheader --job "$job" 2> /dev/null)" ]; do sleep 0.5; done
same_table "$stapes" whole array
