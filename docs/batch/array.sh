#!/bin/bash
# Data in several files, and a run of its own over each, on one GPU each: sbatch --array=0-7 array.sh
#SBATCH --job-name=attnstore
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A-%a.out
#SBATCH --error=%x-%A-%a.jsonl
set -u

# In the order of their names, which is the same in every task.
files=("${SHARDS:-shards}"/*)
data=${files[$SLURM_ARRAY_TASK_ID]:?there is no file for this task}
name=$(basename "$data")
mkdir -p "${STORES:-runs}"

srun attnstore run "${STORES:-runs}/${name%%.*}.attn" --data "$data" --config "${OPTIONS:-run.toml}" --progress json
code=$?

if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
