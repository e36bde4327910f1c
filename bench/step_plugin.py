#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One full-size denoising step in diffusers: as it is, sparsified, and in FP8, in turns on one GPU.

    python bench/step_plugin.py --family flux --json plugin.json

All run with torch.compile of the repeated blocks, in one process, warm, alternating. Weights are
random and shared; what is sparse has low ranks of 64 and, in `best` and `e4m3`, blocks of 64 before the
choice, random as well: they take the time that fitted ones take. Needs torch with CUDA, diffusers, rtlynx,
and about twice the memory of the weights. `--tiny` runs small models on the CPU, to try the script.
"""

import argparse
import copy
import json
import statistics
import sys
import time

import torch
import torch._dynamo.pgo
from torch._dynamo.utils import counters

import rtlynx
from result_file import write_json
from step_models import FAMILIES, Setting
from step_rivals import Fp8Linear, class_of

RANK, BLOCK = 64, 64
STEPS = 10  # of a round


def shared_copy(model):
    """A copy of the modules with the same parameters."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def random_compensation(model, layers, transforms):
    """Low ranks, and orthogonal blocks, as `rtlynx calibrate` would give; weights as they are."""
    linears = dict(model.named_modules())
    made, inputs = {}, {}
    for group in layers:
        name, *_ = group
        weight = linears[name].weight
        channels = weight.shape[1]
        if transforms:
            blocks = torch.randn(channels // BLOCK, BLOCK, BLOCK, device=weight.device)
            inputs[name] = rtlynx.InputTransform(blocks=torch.linalg.qr(blocks)[0])
        for layer in group:
            weight = linears[layer].weight.data
            low = lambda *shape: 0.02 * torch.randn(shape, device=weight.device, dtype=weight.dtype)
            made[layer] = rtlynx.LayerCompensation(
                input=name, down=low(RANK, channels), up=low(weight.shape[0], RANK),
                weight=weight if transforms else None)
    return rtlynx.Compensation(made, inputs, {"method": f"random, rank {RANK}"})


def sparsified(model, recipe, tokens, transforms, dtype, force):
    """A copy whose layers of the recipe are sparse where that is faster."""
    model = shared_copy(model)
    layers = rtlynx.groups_of(model, recipe)
    report = rtlynx.sparsify(model, random_compensation(model, layers, transforms), tokens=tokens,
                             force=force, keep_original=False, dtype=dtype)
    return model, report


def with_fp8_blocks(model):
    """A copy with every Linear of the blocks but the modulation in FP8."""
    model = shared_copy(model)
    for group in rtlynx.groups_of(model, "all"):
        for name in group:
            parent, child = name.rsplit(".", 1)
            setattr(model.get_submodule(parent), child, Fp8Linear(model.get_submodule(name)))
    return model


class Variant:
    def __init__(self, name, model, arguments, report=None):
        self.name, self.model, self.arguments, self.report = name, model, arguments, report
        self.rounds = []

    @torch.no_grad()
    def run(self):
        return self.model(**self.arguments)[0]

    def compile(self, backend):
        """Compiles by running, and keeps how long that took and how many graphs it made."""
        torch._dynamo.pgo.reset_code_state()  # else later variants know which sizes change
        self.model.compile_repeated_blocks(fullgraph=False, backend=backend)
        graphs, begin = counters["stats"]["unique_graphs"], time.perf_counter()
        output = self.run()
        sample = output[0] if isinstance(output, list) else output
        if not torch.isfinite(sample).all():
            sys.exit(f"step_plugin: required finite results, got others from {self.name}")
        self.compile_s = time.perf_counter() - begin
        self.run()  # the strides of later steps
        self.graphs = counters["stats"]["unique_graphs"] - graphs

    def time_round(self, on_gpu):
        steps = STEPS if on_gpu else 1
        synchronize = torch.cuda.synchronize if on_gpu else lambda: None
        self.run()
        synchronize()
        begin = time.perf_counter()
        for _ in range(steps):
            self.run()
        synchronize()
        self.rounds.append(1e3 * (time.perf_counter() - begin) / steps)

    def ms_by_class(self):
        from torch.profiler import ProfilerActivity, profile
        with profile(activities=[ProfilerActivity.CUDA]) as trace:
            self.run()
            torch.cuda.synchronize()
        classes = {}
        for event in trace.key_averages():
            if event.device_type == torch.autograd.DeviceType.CUDA:
                kind = class_of(event.key)
                if any(part in event.key for part in ("rtlynx", "pack24", "product24")):
                    kind = "sparse product" if "product" in event.key.lower() or \
                        "gemm" in event.key.lower() else "pack"
                classes[kind] = classes.get(kind, 0) + event.self_device_time_total / 1e3
        return classes

    def describe(self, on_gpu):
        row = {"name": self.name, "ms": statistics.median(self.rounds), "ms_rounds": self.rounds,
               "compile_s": self.compile_s, "graphs": self.graphs}
        if on_gpu:
            row["ms_by_class"] = self.ms_by_class()
        if self.report is not None:
            row["sparse_layers"] = self.report.sparse_layers
            row["expected_saved_ms"] = self.report.saved_us / 1e3
        return row


def variants_of(family, wanted, setting, text):
    side = 128 if setting.tiny else family.side
    step = family.make(setting, side, 32 if setting.tiny else text or family.text, batch=1)
    model, arguments, tokens = step.model, step.arguments, step.tokens
    made = [Variant("dense", model, arguments)]
    for name, recipe, transforms, dtype in (("paper", "paper", False, None),
                                            ("best", "all", True, None),
                                            ("e4m3", "all", True, "e4m3")):
        if name in wanted:
            sparse, report = sparsified(model, recipe, tokens, transforms, dtype, force=setting.tiny)
            made.append(Variant(name, sparse, arguments, report))
    if "fp8" in wanted and not setting.tiny:
        made.append(Variant("fp8", with_fp8_blocks(model), arguments))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--family", choices=sorted(FAMILIES), default="flux")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", default="paper,best,e4m3,fp8", help="besides dense")
    parser.add_argument("--text", type=int, default=0, help="text tokens; 0: as usual")
    parser.add_argument("--tiny", action="store_true", help="small models on the CPU")
    parser.add_argument("--json", required=True)
    options = parser.parse_args()

    torch.manual_seed(1)
    torch._dynamo.config.recompile_limit = 64  # the variants share the blocks' code
    setting = Setting(options.tiny)
    family = FAMILIES[options.family]
    made = variants_of(family, options.variants.split(","), setting, options.text)
    for variant in made:
        variant.compile("aot_eager" if options.tiny else "inductor")
        print(f"{variant.name}: compiled in {variant.compile_s:.1f} s, {variant.graphs} graphs",
              flush=True)
    for _ in range(options.rounds):
        for variant in made:
            variant.time_round(not options.tiny)
        print({variant.name: round(variant.rounds[-1], 2) for variant in made}, flush=True)

    rows = [variant.describe(not options.tiny) for variant in made]
    dense = rows[0]["ms"]
    import diffusers
    result = {
        "gpu": "none" if options.tiny else torch.cuda.get_device_name(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "family": options.family, "torch": torch.__version__, "diffusers": diffusers.__version__,
        "variants": rows,
        "summary": {f"plugin_{family.key}_{row['name']}_over_compile": dense / row["ms"]
                    for row in rows[1:]}}
    write_json(options.json, result)
    print(json.dumps(result["summary"], indent=1))


if __name__ == "__main__":
    main()
