#!/usr/bin/env bash
# Compares every method of making a model sparse, as docs/quality.md shows it.
#
#   tools/quality.sh RTLYNX OUT PROMPTS [option ...]
#
# RTLYNX is the binary, OUT a folder, PROMPTS the number of held-out captions; the options go to every
# command: --model, --device. Compensations that are already in OUT are not made again, and evaluate
# goes on behind its last finished method, so that a run that was stopped goes on. RTLYNX_BATCH is the
# number of pictures drawn at once (32), RTLYNX_TRAIN_STEPS that of the trained low ranks' steps (2000).
set -euo pipefail

if [[ $# -lt 3 ]]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
rtlynx=$1 out=$2 prompts=$3
shift 3
train_steps=${RTLYNX_TRAIN_STEPS:-2000}
batch=${RTLYNX_BATCH:-32}
mkdir -p "$out"
files=()

# calibrate NAME option ...
calibrate() {
  local file=$out/$1.safetensors
  shift
  files+=(--compensation "$file")
  [[ -e $file ]] || "$rtlynx" calibrate "$@" "${common[@]}" -o "$file" > "${file%.safetensors}.txt"
}

common=(--dtype fp32 "$@")
calibrate norm+lora-sgd --method sgd --train-steps "$train_steps"
calibrate norm+lora-distilled --method distill --train-steps "$train_steps"
calibrate norm+joint --method joint --norm
for block in 4 16 128; do
  calibrate "block$block+joint" --method joint --transform "$block"
done
calibrate permute+joint --method joint --transform permute

"$rtlynx" evaluate "${common[@]}" --prompts "$prompts" --batch "$batch" --methods all \
  --velocity-stride 1 --calibration-steps 14 --calibration-rows 512 "${files[@]}" -o "$out/quality.json" --pictures "$out/pictures"
"$rtlynx" analyze "${common[@]}" -o "$out/analysis.json"
"$rtlynx" report "$out/quality.json" --analysis "$out/analysis.json" \
  --pictures "$out/pictures" -o "$out/report.html"
