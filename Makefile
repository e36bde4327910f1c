# Verbs: setup, demo, test, bench, quality, sanitize, format. Each does its own set-up.
# PRESET is cuda where a usable nvcc is found and cpu elsewhere; PRESET=cpu leaves the GPU kernels out.
# The demo takes them only where there is a GPU as well: they take long to compile.
SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
ifeq ($(origin PRESET),undefined)
PRESET = $(shell tools/setup.sh --print-preset)
demo: PRESET = $(shell tools/setup.sh --print-demo-preset)
endif
BUILD = build/$(PRESET)
RTLYNX = $(BUILD)/bin/rtlynx
SOURCES = git ls-files -co --exclude-standard -- '*.cpp' '*.h' '*.cu' '*.cuh'
CLANG_FORMAT := .venv/bin/clang-format
FUZZ_SECONDS ?= 60
PROMPTS ?= 32
FUZZ_TARGETS := safetensors json png_texts token_files byte_pair t5_model compensation

.PHONY: help setup configure build demo test bench quality sanitize fuzz wheel wheel-test format format-check

help:
	@echo "make setup     install what is missing: system packages, .venv with torch"
	@echo "make demo      draw prompts dense and 2:4 sparse, side by side, into out/"
	@echo "make test      build everything and run the tests"
	@echo "make bench     time the sparse kernels against dense ones: figures and a plot into out/"
	@echo "make quality   compare all methods on PROMPTS captions: table and page in out/quality"
	@echo "make sanitize  all CPU tests under ASan and UBSan, then the fuzzers for a minute each"
	@echo "make wheel     the Python package with the operators in it, into out/"
	@echo "make wheel-test  the plug-in's tests with that wheel, in an environment of its own"
	@echo "make format    format the sources; format-check only looks"

setup:
	@tools/setup.sh

configure: setup
	@cmake --preset $(PRESET) --log-level=WARNING -Wno-dev

build: configure
	@cmake --build --preset $(PRESET)

demo: configure
	@cmake --build --preset $(PRESET) --target rtlynx
	@mkdir -p out
	$(RTLYNX) generate --compare --beside models/lynx-mini/paper.safetensors -o out/demo.png \
	  -p "a large striped red circle top left, two small blue rings bottom right on navy" \
	  -p "the word lynx in yellow top right, a large green triangle bottom left on black" \
	  -p "a large checkered purple square bottom left, three small orange crosses top right on gray"
	@echo "Each picture: dense; 2:4 sparse as rtlynx does it; as the paper does it; and four times"
	@echo "the difference of the first two."

test: build
	@ctest --preset $(PRESET)

bench: configure
	@cmake --build --preset $(PRESET) --target rtlynx
	@mkdir -p out
	$(RTLYNX) bench --json out/bench.json --plot out/bench.svg

quality: configure
	@cmake --build --preset $(PRESET) --target rtlynx
	@tools/quality.sh $(RTLYNX) out/quality $(PROMPTS)

sanitize: setup
	@cmake --preset asan --log-level=WARNING -Wno-dev
	@cmake --build --preset asan
	@ctest --preset asan
	@$(MAKE) --no-print-directory fuzz

fuzz:
	@tools/setup.sh --with-fuzzer
	@cmake --preset fuzz --log-level=WARNING -DCMAKE_CXX_COMPILER=$$(tools/setup.sh --print-clang)
	@cmake --build --preset fuzz $(FUZZ_TARGETS:%=--target fuzz_%)
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p out/corpus/$$target; \
	  build/fuzz/tests/fuzz/fuzz_$$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
	    -artifact_prefix=out/ out/corpus/$$target tests/fuzz/corpus/$$target; \
	done

wheel: build
	@tools/wheel.sh .venv/bin/python $(BUILD) out

wheel-test: wheel
	@tools/wheel_test.sh .venv/bin/python "$$(ls -t out/rtlynx-*.whl | head -1)"

format: setup
	@$(SOURCES) | xargs --no-run-if-empty $(CLANG_FORMAT) -i

format-check: setup
	@test -n "$$($(SOURCES))" || { echo "format-check: git lists no sources here" >&2; exit 1; }
	@$(SOURCES) | xargs $(CLANG_FORMAT) --dry-run --Werror
