#!/bin/bash
# wheel_test.sh PYTHON WHEEL: installs the wheel into a fresh environment that shares PYTHON's packages,
# torch among them, and runs the plug-in's tests from there.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 wheel=$(realpath "$2")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
own=$("$folder/venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
"$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))" >"$own/shared.pth"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check "${wheel}[diffusers]" peft accelerate
unset PYTHONPATH RTLYNX_OPS_LIBRARY
cd tests/rtlynx_plugin
"$python" -m rtlynx
"$python" - "$folder" <<'END'
import sys, rtlynx
if not rtlynx.__file__.startswith(sys.argv[1]):
    sys.exit(f"wheel_test: required the wheel's rtlynx, got {rtlynx.__file__}")
END
"$python" -B -m unittest "${@:3}"
