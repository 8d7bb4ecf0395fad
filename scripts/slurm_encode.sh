#!/bin/bash
# Pictures of a folder encoded by several jobs under Slurm, each taking its part:
#
#   mkdir compressed
#   sbatch --array=1-8 scripts/slurm_encode.sh holiday/ -o compressed/ --quality 60
#
# Everything behind the script's name goes to `dfm encode` as it is. The folders must be on a file system that all
# hosts see. How many parts there are is the size of the array; which pictures belong to a part depends on their names
# alone.
#
# A job that was cancelled, or ran into its time limit, has kept what it had finished: the same command goes on from
# there. Its exit code is that of `dfm encode`: 1 where some files were not encoded, which its log lists.

#SBATCH --job-name=dfm-encode
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%x-%A-%a.log

set -u
cd "${DFM_HOME:-${SLURM_SUBMIT_DIR:-.}}" || exit 2

export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun no longer takes it from sbatch by itself

# an array may begin anywhere (0-7), and skip numbers (1-15:2)
part=$(((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN) / SLURM_ARRAY_TASK_STEP + 1))
parts=$(((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN) / SLURM_ARRAY_TASK_STEP + 1))

exec srun python -m dfm.compress encode "$@" "--shard=$part/$parts"
