#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One full-size dense step in bf16 on one GPU: rtlynx and diffusers against diffusers in fp32.

    python bench/step_numerics.py --step build/cuda/bin/transformer_step --json numerics.json

Weights are random, and the same for all: diffusers makes the model in bf16 and saves it, rtlynx loads the
folder (bench/transformer_step.cpp), and fp32 has the bf16 weights widened, without TF32. Errors are
||difference|| / ||exact|| of the velocity. Ours may lie twice as far from diffusers' bf16 as that lies from
fp32, and no further from fp32 either; else the exit code is 1. Needs torch with CUDA, diffusers, 90 GB of
GPU memory, and 41 GB where `--folder` is for the largest family, Qwen-Image. `--tiny` runs small models on
the CPU.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from safetensors.torch import load_file, save_file

from result_file import write_result
from step_models import FAMILIES, Setting

LARGEST = 2  # times diffusers' own error
SHARD = 2 << 30  # bytes


def write_shard(path, tensors):
    """A safetensors file of bf16 tensors, which wait on a GPU until they are written."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape),
                        "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.cpu().flatten().view(torch.uint8).numpy())


def save(model, folder):
    """What save_pretrained writes, by several threads: one is at 41 GB for a minute or more."""
    shards, size = [{}], 0
    for name, tensor in model.state_dict().items():
        if size + tensor.nbytes > SHARD and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    stem = "diffusion_pytorch_model"
    files = [f"{stem}-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_shard, (os.path.join(folder, file) for file in files), shards))
    index = {"metadata": {}, "weight_map": {name: file for file, shard in zip(files, shards)
                                            for name in shard}}
    with open(os.path.join(folder, stem + ".safetensors.index.json"), "w", encoding="utf-8") as out:
        json.dump(index, out)
    model.save_config(folder)


def inputs_of(family, arguments):
    """diffusers' arguments under the names that rtlynx has for them."""
    if family == "z-image":
        return {"hidden_states": torch.stack(arguments["x"]).squeeze(2),
                "encoder_hidden_states": torch.stack(arguments["cap_feats"]),
                "timestep": arguments["t"]}
    inputs = {name: value for name, value in arguments.items() if torch.is_tensor(value)}
    if family == "qwen-image":
        (grid,) = arguments["img_shapes"]
        inputs["img_shapes"] = torch.tensor([[rows, columns] for _, rows, columns in grid])
    return inputs


def in_fp32(value):
    if torch.is_tensor(value):
        return value.float()
    return [in_fp32(entry) for entry in value] if isinstance(value, list) else value


@torch.no_grad()
def velocity_of(model, arguments):
    output = model(**arguments)[0]
    if isinstance(output, list):  # Z-Image: a picture each, [C, 1, H, W]
        output = torch.stack(output).squeeze(2)
    return output.cpu().double()


def velocity_of_rtlynx(options, model, inputs, device):
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        save(model, folder)
        given, taken = os.path.join(folder, "inputs.st"), os.path.join(folder, "velocity.st")
        save_file({name: value.contiguous().cpu() for name, value in inputs.items()}, given)
        subprocess.run([options.step, folder, given, taken, "--device", device], check=True)
        return load_file(taken)["velocity"].double()


def compare(name, options):
    family, begin = FAMILIES[name], time.time()
    torch.manual_seed(1)
    setting = Setting(options.tiny)
    setting.dtype = torch.bfloat16
    side, text = (128, 32) if options.tiny else (family.side, family.text)
    step = family.make(setting, side, text, 1)
    ours = velocity_of_rtlynx(options, step.model, inputs_of(name, step.arguments), setting.device)
    theirs = velocity_of(step.model, step.arguments)
    exact = velocity_of(step.model.float(), {key: value if key == "img_shapes" else in_fp32(value)
                                             for key, value in step.arguments.items()})
    distance = lambda a, b: ((a - b).norm() / exact.norm()).item()
    row = {"family": name, "side": side, **{f"{stream}_tokens": count
                                            for stream, count in step.tokens.items()},
           "rtlynx_to_fp32": distance(ours, exact), "diffusers_to_fp32": distance(theirs, exact),
           "rtlynx_to_diffusers": distance(ours, theirs), "largest": exact.abs().max().item(),
           "root_mean_square": exact.square().mean().sqrt().item()}
    print(json.dumps(row), f"{time.time() - begin:.0f} s", flush=True)
    return row


def wrong(row):
    allowed = LARGEST * row["diffusers_to_fp32"]
    return [f"{row['family']}, {key}: required at most {allowed}, got {row[key]}"
            for key in ("rtlynx_to_fp32", "rtlynx_to_diffusers") if not row[key] <= allowed]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--families", default=",".join(FAMILIES), help="separated by commas")
    parser.add_argument("--step", default="build/cuda/bin/transformer_step", help="the program")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where models are saved")
    parser.add_argument("--tiny", action="store_true", help="small models on the CPU")
    parser.add_argument("--json", help="required without --tiny")
    options = parser.parse_args()
    if not options.tiny and not options.json:
        parser.error("--json: required, got none")
    names = options.families.split(",")
    for name in names:
        if name not in FAMILIES:
            parser.error(f"--families: required some of {', '.join(FAMILIES)}, got {name}")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rows, complaints = [], []
    for name in names:
        rows.append(compare(name, options))
        complaints += wrong(rows[-1])
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if not options.tiny:
        import diffusers
        write_result(options.json, {"diffusers": diffusers.__version__, "dtype": "bf16",
                                    "families": rows})
    sys.exit("\n".join(complaints) or None)


if __name__ == "__main__":
    main()
