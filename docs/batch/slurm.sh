#!/bin/bash
# One run on one GPU, which goes on by itself when its time is over: sbatch slurm.sh
#SBATCH --job-name=attnstore
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --mem=32G
#SBATCH --time=04:00:00
# Five minutes before the end attnstore gets SIGTERM, and finishes the part in hand.
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
#SBATCH --error=%x-%j.jsonl
set -u

srun attnstore run "${STORE:-reviews.attn}" --config "${OPTIONS:-run.toml}" --progress json
code=$?

# 143: it was SIGTERM. The same command goes on with the parts that are missing.
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
