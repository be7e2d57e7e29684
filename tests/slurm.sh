#!/usr/bin/env bash
# Installs Slurm and starts one on this machine for tests/test_slurm.py:  tests/slurm.sh install | up FOLDER | down FOLDER
#
# One node, this machine, on loopback; one GPU that is none (/dev/zero); no database, no cgroups, nothing in /etc.
# Works for root and for anybody else; `up` prints the environment that the clients need.
set -euo pipefail
source "$(dirname "$0")/debian.sh"

export PATH=/usr/sbin:$PATH

configure() {
    local folder=$1 port=$2 host user cpus memory
    host=$(hostname -s) user=$(id -un) cpus=$(env -u OMP_NUM_THREADS nproc)
    memory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 - 512))
    cat >"$folder/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
ReturnToService=2
MinJobAge=300
KillWait=20
SchedulerParameters=sched_interval=2,bf_interval=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    echo "NodeName=$host Name=gpu File=/dev/zero" >"$folder/gres.conf" # with a count alone the node has none
}

up() {
    local folder
    folder=$(realpath -m "$1")
    rm -rf "$folder"
    mkdir -p "$folder"/{munge,state,spool,bin}
    chmod 755 "$folder" "$folder/munge"
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
    munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munge/munged.pid" --log-file="$folder/munge/munged.log" \
        --seed-file="$folder/munge/seed" 2>"$folder/munge/errors"
    configure "$folder" "${2:-26817}"
    # a job's inner step loses SLURM_CONF: an srun that puts it back
    printf '#!/bin/sh\nSLURM_CONF=%s exec /usr/bin/srun "$@"\n' "$folder/slurm.conf" >"$folder/bin/srun"
    chmod +x "$folder/bin/srun"
    export SLURM_CONF=$folder/slurm.conf
    slurmctld
    slurmd -N "$(hostname -s)"
    for _ in $(seq 200); do
        if [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]]; then
            echo "SLURM_CONF=$folder/slurm.conf"
            echo "PATH=$folder/bin:$PATH"
            return 0
        fi
        sleep 0.1
    done
    tail -n 20 "$folder"/slurm*.log >&2
    return 1
}

down() {
    local folder file
    folder=$(realpath -m "$1")
    for file in slurmd.pid slurmctld.pid munge/munged.pid; do
        [[ ! -f $folder/$file ]] || kill "$(cat "$folder/$file")" || true
    done
}

case "${1:-}" in
install) debian slurmctld slurmd slurm-client munge ;;
up | down) "$@" ;;
*)
    echo "usage: tests/slurm.sh install | up FOLDER [PORT] | down FOLDER" >&2
    exit 2
    ;;
esac
