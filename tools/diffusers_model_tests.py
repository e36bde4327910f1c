#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs diffusers' own model tests of FLUX, Qwen-Image and Z-Image, dense and with every eligible
layer forced sparse: what passes dense has to pass sparse.

    git clone https://github.com/huggingface/diffusers
    tools/diffusers_model_tests.py diffusers                    # all three
    tools/diffusers_model_tests.py diffusers flux -- -k Memory  # the rest is for pytest

The tests are the checkout's, diffusers is the installed one. Exit code 1 if a test does not fail dense
but fails sparse, other than those of EXPECTED.
"""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

MODELS = {"flux": "FluxTransformer2DModel", "qwenimage": "QwenImageTransformer2DModel",
          "z_image": "ZImageTransformer2DModel"}

# Tests that ask for what rtlynx refuses, and the words of the refusal.
NO_GRADIENT = "has no gradient"
EXPECTED = {
    "test_fuse_unfuse_qkv_projections": "fuse_qkv_projections: required a model without rtlynx",
    "test_training": NO_GRADIENT,
    "test_training_with_ema": NO_GRADIENT,
    "test_gradient_checkpointing_equivalence": NO_GRADIENT,
    "test_gradient_checkpointing_is_applied": NO_GRADIENT,
    "test_mixed_precision_training": NO_GRADIENT,
    "test_layerwise_casting_training": NO_GRADIENT,
}


def wrap(diffusers, rtlynx, layers):
    """Models of the three classes are sparse from their construction on. How many of their Linears
    are is added to ``layers``, sparse and all."""
    for name in MODELS.values():
        cls = getattr(diffusers, name)

        def make(original):
            @functools.wraps(original)
            def construct(self, *args, **kwargs):
                original(self, *args, **kwargs)
                report = rtlynx.sparsify(self, recipe="all", force=True)
                layers.append((len(report.sparse_layers), len(report.layers)))
            return construct

        cls.__init__ = make(cls.__init__)


class Outcomes:
    """Of every test: passed, failed or skipped, and why it failed."""

    def __init__(self, past_marks):
        self.found, self._past_marks = {}, past_marks

    def pytest_collection_modifyitems(self, items):
        """Drops the marks that skip a test for want of a GPU, where it is to run even so."""
        for node in {node for item in items for node in item.listchain() if self._past_marks}:
            node.own_markers = [mark for mark in node.own_markers if not (
                mark.name == "skipif" and "accelerator" in mark.kwargs.get("reason", ""))]

    def pytest_runtest_logreport(self, report):
        name = report.nodeid
        if report.when == "call" or report.outcome != "passed":
            self.found[name] = (report.outcome, str(report.longrepr) if report.failed else "")


def run_here(checkout, options, parsed):
    """In a process of its own: the tests set determinism and caches for good."""
    import diffusers  # before the checkout's conftest puts its own first
    import pytest
    layers = []
    if parsed.sparse:
        import warnings

        import rtlynx
        warnings.filterwarnings("ignore", module="rtlynx")
        wrap(diffusers, rtlynx, layers)
    outcomes = Outcomes(parsed.past_gpu_marks)
    os.chdir(checkout)
    pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", "--tb=short", *options],
                plugins=[outcomes])
    parsed.here.write_text(json.dumps({
        "diffusers": diffusers.__version__, "found": outcomes.found,
        "layers": max(layers, default=(0, 0))}))


def run(parsed, file, options, sparse):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "outcomes.json"
        command = [sys.executable, __file__, str(parsed.checkout), "--here", str(out),
                   *(["--sparse"] if sparse else []),
                   *(["--past-gpu-marks"] if parsed.past_gpu_marks else []), "--", file, *options]
        log = subprocess.run(command, capture_output=True, text=True)
        if not out.exists():
            sys.exit(f"diffusers_model_tests: required that pytest runs, got:\n"
                     f"{log.stdout[-2000:]}{log.stderr[-2000:]}")
        return json.loads(out.read_text())


def counts(found):
    outcomes = [outcome for outcome, _ in found.values()]
    return ", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("passed", "failed", "skipped"))


def compare(model, dense, sparse):
    """Prints one model's counts. Returns whether sparse keeps what dense passes."""
    print(f"{model}: dense {counts(dense['found'])}; sparse {counts(sparse['found'])}; "
          f"{sparse['layers'][0]} of {sparse['layers'][1]} Linears sparse", flush=True)
    kept = sparse["layers"][0] > 0
    for name, (outcome, _) in dense["found"].items():
        result, reason = sparse["found"].get(name, ("missing", ""))
        if outcome == "failed" or result in (outcome, "passed"):
            continue
        words = EXPECTED.get(name.rsplit("::", 1)[-1].partition("[")[0])
        expected = words is not None and words in reason
        last = reason.strip().splitlines()[-1] if reason.strip() else ""
        print(f"  {name.partition('::')[2]}: {outcome}, then {result}; "
              f"{f'expected: {words}' if expected else last}")
        kept = kept and expected
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=pathlib.Path, help="a checkout of diffusers")
    parser.add_argument("models", nargs="*", help=f"some of {', '.join(MODELS)} [all]")
    parser.add_argument("--past-gpu-marks", action="store_true",
                        help="run the tests that ask for an accelerator on a CPU too")
    parser.add_argument("--here", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--sparse", action="store_true", help=argparse.SUPPRESS)
    own, options = sys.argv[1:], []
    if "--" in own:
        cut = own.index("--")
        own, options = own[:cut], own[cut + 1:]
    parsed = parser.parse_args(own)
    if parsed.here:
        run_here(parsed.checkout, options, parsed)
        return 0
    tests = parsed.checkout / "tests" / "models" / "transformers"
    if not tests.is_dir():
        parser.error(f"checkout: required a checkout of diffusers, got {parsed.checkout}")
    unknown = [model for model in parsed.models if model not in MODELS]
    if unknown:
        parser.error(f"models: required some of {', '.join(MODELS)}, got {unknown[0]}")
    kept = True
    for model in parsed.models or MODELS:
        file = f"tests/models/transformers/test_models_transformer_{model}.py"
        dense, sparse = (run(parsed, file, options, kind) for kind in (False, True))
        kept = compare(model, dense, sparse) and kept
    print(f"diffusers {dense['diffusers']}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
