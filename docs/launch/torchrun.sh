#!/usr/bin/env bash
# Eight cards of one machine, without accelerate's configuration: DDP. The same line goes on where a training stopped.
# docs/launch/torchrun.sh paper-7b runs/7b DIR (the folder of the data)
set -euo pipefail
profile=${1:-paper-7b} out=${2:-runs/$profile} root=${3:-}
if [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-110} # to save when asked to end; else 30 s
exec torchrun --standalone --nproc_per_node=8 -m pgpt_lib train --profile "$profile" --out "$out" --resume ${root:+--root "$root"}
