#!/usr/bin/env bash
# Installs what a build needs and does not have: system packages (Debian 12, Ubuntu 24.04), and a
# .venv with torch. Says nothing and changes nothing when all is there.
#
#   tools/setup.sh                  what `make demo` and `make test` need
#   tools/setup.sh --with-fuzzer    also clang with libFuzzer
#   tools/setup.sh --print-clang    prints the clang++ (16 or later) that builds the fuzzers
#   tools/setup.sh --print-preset   prints the CMake preset for this machine: cuda or cpu
#   tools/setup.sh --print-demo-preset   the same, but cuda only where there is a GPU too
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TORCH_RANGE="torch>=2.11"
readonly TORCH_CPU="torch==2.13.0+cpu"
readonly TORCH_CPU_INDEX="https://download.pytorch.org/whl/cpu"
readonly STAMP=.venv/rtlynx-setup

system_packages() {
  echo g++ cmake ninja-build make git pkg-config python3-venv \
    libcli11-dev libfmt-dev nlohmann-json3-dev libgtest-dev libgmock-dev libstb-dev \
    libpcre2-dev libutf8proc-dev libsentencepiece-dev zlib1g-dev
}

# Debian 12 calls it clang-16, Ubuntu 24.04 has clang-18.
fuzzer_packages() {
  local version
  for version in 16 18; do
    if apt-cache show "clang-$version" >/dev/null 2>&1; then
      echo "clang-$version" "libclang-rt-$version-dev"
      return
    fi
  done
  echo clang-16 libclang-rt-16-dev
}

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q "ok installed"; }

install_missing() {
  local package missing=()
  for package in "$@"; do installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} -eq 0 ] && return
  local run=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      echo "rtlynx needs these system packages: ${missing[*]}" >&2
      echo "Install them with: sudo apt-get install ${missing[*]}" >&2
      exit 1
    fi
    run=(sudo)
  fi
  echo "Installing ${missing[*]}"
  "${run[@]}" apt-get update -qq
  "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
}

install_system() {
  if ! command -v dpkg-query >/dev/null; then
    # Elsewhere CMake fetches the libraries; the tools have to be there.
    local tool
    for tool in g++ cmake ninja python3; do
      command -v "$tool" >/dev/null || { echo "rtlynx needs $tool; it was not found" >&2; exit 1; }
    done
    return
  fi
  install_missing "$@"
}

# True for an nvcc of 12.4 or later: older ones do not know C++20 with g++ 12 and sm_90a.
usable_nvcc() {
  local version
  version=$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9]*\.[0-9]*\).*/\1/p')
  [ -n "$version" ] && [ "$(printf '%s\n12.4\n' "$version" | sort -V | head -n 1)" = 12.4 ]
}

usable_gpu() { nvidia-smi -L >/dev/null 2>&1 && usable_nvcc; }

install_torch() {
  local pip=(.venv/bin/python -m pip install --disable-pip-version-check)
  if ! usable_gpu; then
    # Without a GPU, or without nvcc to build for it, torch's CPU build saves gigabytes.
    echo "Installing $TORCH_CPU (200 MB) into .venv"
    "${pip[@]}" --quiet --retries 1 --extra-index-url "$TORCH_CPU_INDEX" "$TORCH_CPU" 2>/dev/null &&
      return
    echo "The CPU build of torch is not offered here; taking the standard build"
  fi
  echo "Installing $TORCH_RANGE with its GPU libraries (several GB) into .venv"
  "${pip[@]}" "$TORCH_RANGE"
}

install_python() {
  local wanted
  wanted=$(cat tools/requirements.txt tools/setup.sh | sha256sum)
  [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$wanted" ] && return
  [ -x .venv/bin/python ] || python3 -m venv .venv
  install_torch
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tools/requirements.txt
  echo "$wanted" >"$STAMP"
}

print_clang() {
  local version
  for version in 16 18 17 19 20; do
    if command -v "clang++-$version"; then return; fi
  done
  echo "rtlynx needs clang 16 or later for the fuzzers; none was found" >&2
  exit 1
}

case "${1:-}" in
  "")
    install_system $(system_packages)
    install_python
    ;;
  --with-fuzzer) install_system $(system_packages) $(fuzzer_packages) ;;
  --print-clang) print_clang ;;
  --print-preset) if usable_nvcc; then echo cuda; else echo cpu; fi ;;
  --print-demo-preset) if usable_gpu; then echo cuda; else echo cpu; fi ;;
  *)
    echo "usage: tools/setup.sh [--with-fuzzer | --print-clang | --print-preset | --print-demo-preset]" >&2
    exit 2
    ;;
esac
