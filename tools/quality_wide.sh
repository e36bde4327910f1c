#!/usr/bin/env bash
# Trains a wider lynx-mini (d = 1024) on scenes with dead leaves and compares every method on it, as
# docs/quality.md shows it: six minutes on an NVIDIA H200.
#
#   tools/quality_wide.sh RTLYNX OUT [option ...]
#
# RTLYNX is the binary, with draw_scenes beside it, OUT a folder, the options evaluate's in place of
# --device cuda --prompts 32 --batch 32 --calibration-prompts 16. After a Ctrl-C the same command goes on:
# training from its checkpoint, evaluation behind the finished methods. PYTHON (python3) has torch and
# diffusers; RTLYNX_WIDE_TRAINING holds options of tools/train_wide.py.
set -euo pipefail

if [[ $# -lt 2 ]]; then
  sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
rtlynx=$1 out=$2
shift 2
options=("$@")
[[ $# -gt 0 ]] || options=(--device cuda --prompts 32 --batch 32 --calibration-prompts 16)
python=${PYTHON:-python3}
read -ra training <<< "${RTLYNX_WIDE_TRAINING:-}"
model=$out/wide
mkdir -p "$out"
[[ -e $model/model_index.json ]] ||
  "$python" "$(dirname "$0")/train_wide.py" --scenes "$(dirname "$rtlynx")/draw_scenes" \
    -o "$model" "${training[@]}"

# evaluate METHODS [option ...]
evaluate() {
  local methods=$1
  shift
  "$rtlynx" evaluate --model "$model" --dtype bf16 --results "$out/quality.kept.json" \
    --pictures "$out/pictures" --keep 4 --methods "$methods" "${options[@]}" "$@" \
    > "$out/evaluate-${methods%%,*}.log" 2>&1
}

# What all share stays while somebody uses its folder: statistics, the dense trajectory and pictures.
mkdir -p "$out/quality.kept.json.work"
exec {shared}< "$out/quality.kept.json.work"
flock -s "$shared"
evaluate refit
shares=(
  sparsegpt,sparsegpt+lora
  block64+joint,block64,block64+joint+e4m3
  joint,columns+joint
  norm+lora,norm,naive,norm+lora+e4m3
  wanda+lora,wanda,magnitude,ria,ria-permuted
  fixed-half,fixed-low-rank
  slim,bawa-style
  mixed
)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} # the processes share the cores
waiting=()
for methods in "${shares[@]}"; do
  evaluate "$methods" &
  waiting+=($!)
done
for process in "${waiting[@]}"; do wait "$process"; done
exec {shared}<&-

evaluate all -o "$out/quality.json"
"$python" - "$model/training.json" "$out/quality.json" << 'END'
import json
import sys

training, quality = (json.load(open(path)) for path in sys.argv[1:])
with open(sys.argv[2], "w") as file:
    json.dump({"training": training, **quality}, file, indent=2)
    file.write("\n")
END
