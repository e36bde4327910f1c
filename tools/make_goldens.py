#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/goldens: what diffusers computes, for the C++ models and scheduler to be held to.

    .venv/bin/python tools/make_goldens.py            write the goldens
    .venv/bin/python tools/make_goldens.py --check    recompute and compare with the committed ones

Every value is seeded and computed on one CPU thread: two runs on one machine give the same bytes.
On another machine or torch the last bits may move, so --check compares within a tolerance.
"""

import argparse
import json
import pathlib
import re
import shutil
import sys
import tempfile

import diffusers
import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from safetensors.torch import load_file, save_file

DIFFUSERS_VERSION = "0.42.1"
GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens"

# Together these cover: with and without guidance, several blocks of each kind, head dimensions 16
# to 64, three splits of the rotary axes, odd text lengths, square and rectangular grids, a batch
# with a time of its own per sample, text positions and a frame index other than zero.
FLUX_CASES = {
    "flux_1x1": dict(
        config=dict(in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
                    num_attention_heads=2, joint_attention_dim=24, pooled_projection_dim=20,
                    guidance_embeds=False, axes_dims_rope=(4, 6, 6)),
        seed=1, batch=1, grid=(4, 4), text=7, frame=0, text_position=False),
    "flux_2x3_guidance": dict(
        config=dict(in_channels=8, num_layers=2, num_single_layers=3, attention_head_dim=16,
                    num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=16,
                    guidance_embeds=True, axes_dims_rope=(8, 4, 4)),
        seed=2, batch=2, grid=(3, 6), text=5, frame=0, text_position=False),
    "flux_head64": dict(
        config=dict(in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=64,
                    num_attention_heads=1, joint_attention_dim=48, pooled_projection_dim=32,
                    guidance_embeds=True, axes_dims_rope=(16, 24, 24)),
        seed=3, batch=1, grid=(6, 2), text=13, frame=0, text_position=False),
    "flux_ids": dict(
        config=dict(in_channels=12, num_layers=1, num_single_layers=2, attention_head_dim=24,
                    num_attention_heads=2, joint_attention_dim=40, pooled_projection_dim=24,
                    guidance_embeds=False, axes_dims_rope=(4, 8, 12)),
        seed=4, batch=2, grid=(5, 3), text=1, frame=1, text_position=True),
}

# The settings the three model families ship with; 2.0 and 3.0 are the common static shifts.
FLUX_SCHEDULER = dict(use_dynamic_shifting=True, shift=3.0, base_shift=0.5, max_shift=1.15,
                      base_image_seq_len=256, max_image_seq_len=4096)
QWEN_SCHEDULER = dict(use_dynamic_shifting=True, shift=1.0, base_shift=0.5, max_shift=0.9,
                      base_image_seq_len=256, max_image_seq_len=8192, shift_terminal=0.02)
STEPS = (1, 4, 28, 50)


def fill(model, generator):
    """Random values for every parameter, of a size at which each part moves the output."""
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 2:
                parameter.copy_(noise / parameter.shape[1] ** 0.5)
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.3 * noise)
            else:
                parameter.copy_(0.2 * noise)


def flux_inputs(case, generator):
    config, batch = case["config"], case["batch"]
    rows, columns = case["grid"]
    img_ids = torch.zeros(rows, columns, 3)
    img_ids[..., 0] = case["frame"]
    img_ids[..., 1] = torch.arange(rows)[:, None]
    img_ids[..., 2] = torch.arange(columns)[None, :]
    txt_ids = torch.zeros(case["text"], 3)
    if case["text_position"]:
        txt_ids += 3 + torch.arange(case["text"])[:, None]
    inputs = {
        "hidden_states": torch.randn(batch, rows * columns, config["in_channels"],
                                     generator=generator),
        "encoder_hidden_states": torch.randn(batch, case["text"], config["joint_attention_dim"],
                                             generator=generator),
        "pooled_projections": torch.randn(batch, config["pooled_projection_dim"],
                                          generator=generator),
        "timestep": torch.rand(batch, generator=generator),
        "img_ids": img_ids.reshape(-1, 3),
        "txt_ids": txt_ids,
    }
    if config["guidance_embeds"]:
        inputs["guidance"] = 1 + 4 * torch.rand(batch, generator=generator)
    return inputs


def run_recording(model, inputs):
    """The model's output and what left every stage on the way, as "after.<module>[.<part>]"."""
    record = {}

    def keep(name, parts):
        def hook(_module, _args, output):
            values = output if isinstance(output, tuple) else (output,)
            for part, value in zip(parts, values, strict=True):
                record[f"after.{name}{part}"] = value.clone()
        return hook

    stages = {name: ("",) for name in ("time_text_embed", "x_embedder", "context_embedder",
                                       "norm_out")}
    stages["pos_embed"] = (".cos", ".sin")
    for kind in ("transformer_blocks", "single_transformer_blocks"):
        for index in range(len(getattr(model, kind))):
            stages[f"{kind}.{index}"] = (".encoder_hidden", ".hidden")
    handles = [model.get_submodule(name).register_forward_hook(keep(name, parts))
               for name, parts in stages.items()]
    output = model(**inputs, return_dict=False)[0]
    for handle in handles:
        handle.remove()
    return output, record


# What the paper sparsifies of FLUX.1 (arXiv 2605.26632). Written out here: the C++ model's own list
# is held to it.
PAPER_LAYERS = re.compile(
    r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|add_[qkv]_proj)|ff(_context)?\.net\.(0\.proj|2))"
    r"|single_transformer_blocks\.\d+\.(attn\.to_[qkv]|proj_mlp)")


def keep_two_of_four(x):
    """Of every four channels the two largest, the token's norm restored."""
    groups = x.unflatten(-1, (-1, 4))
    kept = groups.abs().topk(2, dim=-1).indices
    kept = torch.zeros_like(groups).scatter(-1, kept, groups.gather(-1, kept)).flatten(-2)
    return kept * (x.norm(dim=-1, keepdim=True) / kept.norm(dim=-1, keepdim=True))


def run_sparse(model, inputs):
    """The output with the paper's layers on 2:4 inputs."""
    handles = [module.register_forward_pre_hook(lambda _module, args: (keep_two_of_four(args[0]),))
               for name, module in model.named_modules() if PAPER_LAYERS.fullmatch(name)]
    output = model(**inputs, return_dict=False)[0]
    for handle in handles:
        handle.remove()
    return output


def make_flux(case, folder):
    generator = torch.Generator().manual_seed(case["seed"])
    model = FluxTransformer2DModel(**case["config"]).eval()
    fill(model, generator)
    inputs = flux_inputs(case, generator)
    # Weights and config exactly as diffusers writes them.
    model.save_pretrained(folder)
    tensors = {f"in.{name}": value for name, value in inputs.items()}
    tensors["out"], record = run_recording(model, inputs)
    tensors.update(record)
    tensors["out.norm"] = run_sparse(model, inputs)
    # As in the pipeline, everything but the position ids is cast to the model's type.
    cast = {name: value if name.endswith("_ids") else value.to(torch.bfloat16)
            for name, value in inputs.items()}
    tensors["out.bf16"] = model.to(torch.bfloat16)(**cast, return_dict=False)[0]
    save_file({name: value.contiguous() for name, value in tensors.items()},
              folder / "io.safetensors", metadata={"made_with": made_with()})


def scheduler_case(name, settings, steps, image_tokens=None):
    scheduler = FlowMatchEulerDiscreteScheduler(**settings)
    mu = None
    if image_tokens is not None:
        mu = calculate_shift(image_tokens, settings["base_image_seq_len"],
                             settings["max_image_seq_len"], settings["base_shift"],
                             settings["max_shift"])
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    case = {"name": name, "config": settings, "steps": steps, "image_tokens": image_tokens,
            "mu": mu, "sigmas": scheduler.sigmas.tolist(),
            "timesteps": scheduler.timesteps.tolist(), "step": []}
    # First, middle and last step; bf16 latents are rounded after every step, fp32 ones are not.
    generator = torch.Generator().manual_seed(steps)
    for index in sorted({0, steps // 2, steps - 1}):
        for dtype in (torch.float32, torch.bfloat16):
            sample = torch.randn(6, generator=generator).to(dtype)
            velocity = torch.randn(6, generator=generator).to(dtype)
            scheduler.set_begin_index(index)
            scheduler._step_index = None
            result = scheduler.step(velocity, scheduler.timesteps[index], sample)
            case["step"].append({"index": index, "dtype": str(dtype).removeprefix("torch."),
                                 "sample": sample.tolist(), "velocity": velocity.tolist(),
                                 "result": result.prev_sample.tolist()})
    return case


def make_schedulers(path):
    cases = []
    for steps in STEPS:
        for tokens in (64, 256, 1024, 4096, 6032):
            cases.append(scheduler_case("flux", FLUX_SCHEDULER, steps, tokens))
        for shift in (2.0, 3.0):
            cases.append(scheduler_case("static", dict(use_dynamic_shifting=False, shift=shift),
                                        steps))
        # One step has no last step to stretch to: diffusers itself returns NaN for it.
        if steps > 1:
            for tokens in (4096, 6889):
                cases.append(scheduler_case("qwen", QWEN_SCHEDULER, steps, tokens))
    lines = ",\n".join(json.dumps(case) for case in cases)
    path.write_text(f'{{"made_with": {json.dumps(made_with())},\n"cases": [\n{lines}\n]}}\n')


def made_with(script="make_goldens.py"):
    return f"tools/{script}, diffusers {diffusers.__version__}, torch {torch.__version__}"


def make_all(folder):
    for name, case in FLUX_CASES.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        make_flux(case, folder / name)
    make_schedulers(folder / "scheduler.json")


def compare_tensors(path, committed, fresh):
    problems = []
    if committed.keys() != fresh.keys():
        problems.append(f"{path}: tensor names differ: {sorted(committed.keys() ^ fresh.keys())}")
    for name in sorted(committed.keys() & fresh.keys()):
        a, b = committed[name], fresh[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            problems.append(f"{path}: {name}: {a.dtype} {tuple(a.shape)} committed, "
                            f"{b.dtype} {tuple(b.shape)} now")
            continue
        # Of the largest value: fp32 sums in another order, or bf16's 8 bits a few layers deep.
        tolerance = (1e-5 if a.dtype == torch.float32 else 5e-2) * a.abs().max().item()
        error = (a.double() - b.double()).abs().max().item() if a.numel() else 0.0
        if not error <= tolerance:
            problems.append(f"{path}: {name}: differs by {error:.3g}, allowed {tolerance:.3g}")
    return problems


def compare_json(path, committed, fresh):
    """Equal, but for the versions noted and for floats, which may differ in the last fp32 bits."""
    if isinstance(committed, dict) and isinstance(fresh, dict) and committed.keys() == fresh.keys():
        return [problem for key in committed if key not in ("made_with", "_diffusers_version")
                for problem in compare_json(f"{path}: {key}", committed[key], fresh[key])]
    if isinstance(committed, list) and isinstance(fresh, list) and len(committed) == len(fresh):
        return [problem for index, pair in enumerate(zip(committed, fresh))
                for problem in compare_json(f"{path}[{index}]", *pair)]
    if isinstance(committed, float) and isinstance(fresh, float):
        same = abs(committed - fresh) <= 1e-6 * max(1.0, abs(committed))
    else:
        same = committed == fresh
    return [] if same else [f"{path}: {committed!r} committed, {fresh!r} now"]


def compare_file(name, committed, fresh):
    if fresh.suffix == ".safetensors":
        return compare_tensors(name, load_file(committed), load_file(fresh))
    if fresh.suffix == ".json":
        return compare_json(name, json.loads(committed.read_text(encoding="utf-8")),
                            json.loads(fresh.read_text(encoding="utf-8")))
    return [] if committed.read_bytes() == fresh.read_bytes() else [f"{name}: differs"]


def check_against(make):
    """Compares what make(folder) writes with the committed goldens; the exit status."""
    problems = []
    with tempfile.TemporaryDirectory() as scratch:
        fresh = pathlib.Path(scratch)
        make(fresh)
        for file in sorted(path for path in fresh.rglob("*") if path.is_file()):
            name = file.relative_to(fresh)
            committed = GOLDENS / name
            problems += (compare_file(name, committed, file) if committed.exists()
                         else [f"{name}: missing from {GOLDENS}"])
    for problem in problems:
        print(problem, file=sys.stderr)
    print("goldens differ" if problems else "goldens agree")
    return 1 if problems else 0


def run(description, library, version, make):
    """The command line of a script that makes goldens with one version of a library; the exit
    status. ``make(folder)`` writes them."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--check", action="store_true",
                        help="recompute and compare with the committed goldens, write nothing")
    arguments = parser.parse_args()
    if library.__version__ != version:
        sys.exit(f"{parser.prog}: required {library.__name__} {version}, got {library.__version__}")
    torch.set_num_threads(1)
    diffusers.logging.set_verbosity_error()
    with torch.no_grad():
        if arguments.check:
            return check_against(make)
        make(GOLDENS)
    return 0


if __name__ == "__main__":
    sys.exit(run(__doc__, diffusers, DIFFUSERS_VERSION, make_all))
