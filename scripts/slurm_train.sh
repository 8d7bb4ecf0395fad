#!/bin/bash
# Training on several hosts under Slurm, one process a host:
#
#   sbatch --nodes=4 scripts/slurm_train.sh --config=configs/dfm_cifar10.py --workdir=/shared/runs/cifar10
#
# Everything behind the script's name goes to dfm.train as it is. The workdir must be on a file system that all hosts
# see. batch_size is that of all hosts together, and must be divisible by the number of all their devices.
#
# Two minutes ahead of the time limit, or when another job needs the hosts, Slurm sends SIGTERM: the training saves and
# ends with code 0. The job then goes into the queue again, and continues where it stopped; one that was finished just
# then finds nothing left to do.

#SBATCH --job-name=dfm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%x-%j.log

set -u
cd "${DFM_HOME:-${SLURM_SUBMIT_DIR:-.}}" || exit 2

export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun no longer takes it from sbatch by itself
if [ "${SLURM_GPUS_ON_NODE:-0}" -gt 0 ]; then
    # under Slurm, JAX gives each process one device; here a process has all those of its host
    JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((SLURM_GPUS_ON_NODE - 1)))
    export JAX_LOCAL_DEVICE_IDS
fi

stopped=0
forward() { # bash gets the signal (B: above) and passes it on to every process of the step
    stopped=1
    kill -TERM "$step" 2>/dev/null
}
trap forward TERM

# jax.distributed finds the hosts, their number and its own place from Slurm's variables
srun --kill-on-bad-exit=1 python -m dfm.train "$@" --distributed &
step=$!
wait "$step"
code=$?
while kill -0 "$step" 2>/dev/null; do # `wait` returns early on a signal; saving goes on
    wait "$step"
    code=$?
done

if [ "$stopped" = 1 ] && [ "$code" = 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
