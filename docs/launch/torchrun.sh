#!/usr/bin/env bash
# Eight cards of one machine, without accelerate's configuration: DDP. The same line goes on where a training stopped.
set -euo pipefail
profile=${1:-paper-7b} out=${2:-runs/$profile}
exec torchrun --standalone --nproc_per_node=8 -m pgpt_lib train --profile "$profile" --out "$out" --resume
