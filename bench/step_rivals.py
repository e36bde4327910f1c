#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One full-size denoising step: rtlynx against diffusers, in turns on one GPU.

    python bench/step_rivals.py --rtlynx build/cuda/bin/rtlynx --json step.json

diffusers runs eager, with torch.compile of its repeated blocks, and with FP8 (e4m3, a scale per token
and per output channel) Linears and torch.compile. rtlynx runs its own variants in a process beside it
(`rtlynx bench --step --turns`). Both have random weights of the same shapes, are warm, and alternate:
single processes drift by several per cent. Needs torch with CUDA, diffusers, and memory for both: about
110 GB with FLUX.1; what does not fit beside a larger model is left out with `--rivals`. `--tiny` runs a
small model of diffusers on the CPU, alone, to try the arguments.
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from result_file import write_json
from step_models import FAMILIES, Setting

STEPS = 10  # of a round


class Fp8Linear(nn.Module):
    """e4m3 with a scale per token, found online, and one per output channel."""

    def __init__(self, linear):
        super().__init__()
        weight = linear.weight.float()
        scale = weight.abs().amax(1, keepdim=True) / 448
        self.weight = (weight / scale).to(torch.float8_e4m3fn)
        self.scale = scale.t().contiguous()
        self.bias = linear.bias

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        scale = rows.abs().amax(-1, keepdim=True).float().clamp(min=1e-8) / 448
        quantised = (rows.float() / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
        y = torch._scaled_mm(quantised, self.weight.t(), scale_a=scale, scale_b=self.scale,
                             bias=self.bias, out_dtype=x.dtype, use_fast_accum=True)
        return y.reshape(*x.shape[:-1], -1)


def sharing_weights(model):
    """A copy of the modules alone."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})


def with_fp8_blocks(model):
    """A copy with every Linear of the blocks but the modulation in FP8."""
    model = sharing_weights(model)
    for name, module in list(model.named_modules()):
        if "blocks" not in name and "layers" not in name:
            continue
        for child_name, child in list(module.named_children()):
            full = f"{name}.{child_name}"
            if isinstance(child, nn.Linear) and "norm" not in full and "adaLN" not in full:
                setattr(module, child_name, Fp8Linear(child))
    torch.cuda.empty_cache()
    return model


class Rival:
    def __init__(self, name, model, arguments):
        self.name, self.model, self.arguments = name, model, arguments
        self.rounds = []

    @torch.no_grad()
    def run(self):
        self.model(**self.arguments)

    def time_round(self):
        self.run()
        begin, end = torch.cuda.Event(True), torch.cuda.Event(True)
        torch.cuda.synchronize()
        begin.record()
        for _ in range(STEPS):
            self.run()
        end.record()
        torch.cuda.synchronize()
        self.rounds.append(begin.elapsed_time(end) / STEPS)

    def describe(self):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with profile(activities=[ProfilerActivity.CUDA]) as trace:
            self.run()
            torch.cuda.synchronize()
        classes = {}
        for event in trace.key_averages():
            if event.device_type == torch.autograd.DeviceType.CUDA:
                kind = class_of(event.key)
                classes[kind] = classes.get(kind, 0) + event.self_device_time_total / 1e3
        return {"name": self.name, "ms": statistics.median(self.rounds), "ms_rounds": self.rounds,
                "activations_gib": (torch.cuda.max_memory_allocated() - before) / 2**30,
                "ms_by_class": classes}


def class_of(kernel):
    kernel = kernel.lower()
    if any(part in kernel for part in ("flash", "fmha", "attention", "sdpa", "cudnn")):
        return "attention"
    if any(part in kernel for part in ("gemm", "nvjet", "cutlass", "gemv", "splitk", "cublas")):
        return "dense product"
    return "fused elementwise" if "triton" in kernel else "other"


def rivals(step, wanted):
    model, arguments = step.model, step.arguments
    made = []
    if "fp8" in wanted:
        fp8 = with_fp8_blocks(model)
        fp8.compile_repeated_blocks(fullgraph=False)
        made.append(Rival("diffusers + torch.compile, FP8", fp8, arguments))
    if "eager" in wanted:
        eager = sharing_weights(model)
        made.insert(0, Rival("diffusers", eager, arguments))
    model.compile_repeated_blocks(fullgraph=False)
    made.insert(0, Rival("diffusers + torch.compile", model, arguments))
    for rival in made:
        for _ in range(4):
            rival.run()
    return made


class Rtlynx:
    """The process beside this one: it runs a round for every line that it is sent."""

    def __init__(self, binary, family, side, batch, json_path):
        self.process = subprocess.Popen(
            [binary, "bench", "--step", family, "--side", str(side), "--batch", str(batch), "--turns",
             "--rounds", "1000000", "--json", json_path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.read()  # ready

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"rtlynx ended with code {self.process.wait()}")
        return json.loads(line)

    def time_round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()

    def finish(self):
        self.process.stdin.close()
        return self.process.wait()


def summarize(family, side, batch, ours, theirs):
    ms = {row["name"]: row["ms"] for row in ours["variants"]}
    compiled = next(row["ms"] for row in theirs if row["name"] == "diffusers + torch.compile")
    keys = {"dense": "dense", "paper": "paper", "paper-block64": "block64", "best-block64": "best",
            "e4m3": "fp8"}
    name = f"step_{family.key}"
    if side != family.side:
        name += f"_{side}"
    if batch > 1:
        name += f"_batch{batch}"
    summary = {f"{name}_{keys[variant]}_over_compile": compiled / own
               for variant, own in ms.items() if variant in keys}
    fp8 = next((row["ms"] for row in theirs if "FP8" in row["name"]), None)
    if fp8 is not None and "e4m3" in ms:
        summary[f"{name}_fp8_over_compile_fp8"] = fp8 / ms["e4m3"]
    return summary


def try_arguments(family):
    step = family.make(Setting(tiny=True), side=128, text=32, batch=2)
    with torch.no_grad():
        output = step.model(**step.arguments)[0]
    print([list(picture.shape) for picture in output], "for", step.tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--family", choices=sorted(FAMILIES), default="flux")
    parser.add_argument("--side", type=int, help="pixels [default: the family's]")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rtlynx", default="build/cuda/bin/rtlynx", help="the command line")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rivals", default="compile,eager,fp8", help="compile always runs")
    parser.add_argument("--tiny", action="store_true", help="a small model on the CPU")
    parser.add_argument("--json", help="required without --tiny")
    options = parser.parse_args()
    family = FAMILIES[options.family]
    if options.tiny:
        return try_arguments(family)
    if not options.json:
        parser.error("--json: required, got none")

    torch.manual_seed(1)
    side = options.side or family.side
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rtlynx.json")
        # First: its comparison with fp32 needs memory that the rivals take afterwards.
        own = Rtlynx(options.rtlynx, options.family, side, options.batch, path)
        step = family.make(Setting(), side, family.text, options.batch)
        made = rivals(step, options.rivals.split(","))
        for _ in range(options.rounds):
            line = own.time_round()
            for rival in made:
                rival.time_round()
            print({**line, **{rival.name: round(rival.rounds[-1], 2) for rival in made}}, flush=True)
        status = own.finish()
        with open(path, encoding="utf-8") as file:
            ours = json.load(file)
    theirs = [rival.describe() for rival in made]
    import diffusers
    result = {**ours, "rivals": theirs, "torch": torch.__version__,
              "diffusers": diffusers.__version__,
              "summary": summarize(family, side, options.batch, ours, theirs)}
    write_json(options.json, result)
    print(json.dumps(result["summary"], indent=1))
    sys.exit(status)


if __name__ == "__main__":
    main()
