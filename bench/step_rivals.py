#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One full-size denoising step: rtlynx against diffusers, in turns on one GPU.

    python bench/step_rivals.py --rtlynx build/cuda/bin/rtlynx --json step.json

diffusers runs eager, with torch.compile of its repeated blocks, and with FP8 (e4m3, a scale per token
and per output channel) Linears and torch.compile. rtlynx runs its own variants in a process beside it
(`rtlynx bench --step`). Both have random weights of the same shapes, are warm, and alternate: single
processes drift by several per cent. Needs torch with CUDA, diffusers, and about 110 GB of GPU memory.
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

DEVICE = "cuda"
DTYPE = torch.bfloat16
STEPS = 10  # of a round


def fill(model):
    """Random weights that keep activations of order one, made on the device."""
    model = model.to_empty(device=DEVICE).to(DTYPE).eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if parameter.ndim < 2:
            parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        else:
            parameter.normal_(0, parameter.shape[1] ** -0.5)
    return model


def flux():
    """FLUX.1-dev, 1024 x 1024 pixels, 512 text tokens: the model and the arguments of a step."""
    from diffusers import FluxTransformer2DModel
    with torch.device("meta"):
        model = FluxTransformer2DModel(guidance_embeds=True)
    model = fill(model)
    image, text = 4096, 512
    positions = torch.arange(image, device=DEVICE)
    ids = torch.stack([torch.zeros_like(positions), positions // 64, positions % 64], -1).float()
    random = lambda *shape: torch.randn(shape, device=DEVICE, dtype=DTYPE)
    return model, dict(
        hidden_states=random(1, image, 64), encoder_hidden_states=random(1, text, 4096),
        pooled_projections=random(1, 768), timestep=torch.tensor([0.5], device=DEVICE, dtype=DTYPE),
        guidance=torch.tensor([3.5], device=DEVICE), img_ids=ids,
        txt_ids=torch.zeros(text, 3, device=DEVICE), return_dict=False)


FAMILIES = {"flux": flux}


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
                             bias=self.bias, out_dtype=DTYPE, use_fast_accum=True)
        return y.reshape(*x.shape[:-1], -1)


def with_fp8_blocks(model):
    """A copy with every Linear of the blocks but the modulation in FP8."""
    model = copy.deepcopy(model)
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


def rivals(family, wanted):
    model, arguments = FAMILIES[family]()
    made = []
    if "fp8" in wanted:
        fp8 = with_fp8_blocks(model)
        fp8.compile_repeated_blocks(fullgraph=False)
        made.append(Rival("diffusers + torch.compile, FP8", fp8, arguments))
    if "eager" in wanted:
        eager = copy.deepcopy(model)
        made.insert(0, Rival("diffusers", eager, arguments))
    model.compile_repeated_blocks(fullgraph=False)
    made.insert(0, Rival("diffusers + torch.compile", model, arguments))
    for rival in made:
        for _ in range(4):
            rival.run()
    return made


class Rtlynx:
    """The process beside this one: it runs a round for every line that it is sent."""

    def __init__(self, binary, family, json_path):
        self.process = subprocess.Popen(
            [*binary, "--step", family, "--turns", "--rounds", "1000000", "--json", json_path],
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


def summarize(family, ours, theirs):
    ms = {row["name"]: row["ms"] for row in ours["variants"]}
    compiled = next(row["ms"] for row in theirs if row["name"] == "diffusers + torch.compile")
    keys = {"dense": "dense", "paper": "paper", "paper-block64": "block64", "best-block64": "best"}
    return {f"step_{family}_{keys[name]}_over_compile": compiled / own
            for name, own in ms.items() if name in keys}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--family", choices=sorted(FAMILIES), default="flux")
    parser.add_argument("--rtlynx", default="build/cuda/bin/rtlynx bench",
                        help="the command that takes --step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rivals", default="compile,eager,fp8")
    parser.add_argument("--json", required=True)
    options = parser.parse_args()

    torch.manual_seed(1)
    made = rivals(options.family, options.rivals.split(","))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rtlynx.json")
        own = Rtlynx(options.rtlynx.split(), options.family, path)
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
              "summary": summarize(options.family, ours, theirs)}
    temporary = options.json + ".part"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    os.replace(temporary, options.json)
    print(json.dumps(result["summary"], indent=1))
    sys.exit(status)


if __name__ == "__main__":
    main()
