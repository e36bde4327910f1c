#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""From a prompt to PNG files: rtlynx and diffusers on one folder, a process each, in turns.

    python bench/text_to_image.py make z-image --tokenizer DIR
    python bench/text_to_image.py time z-image --rtlynx build/cuda/bin/rtlynx --json times.json

`make` writes a folder of Z-Image-Turbo's full size (20 GB in bf16) with random weights; DIR has the
vocab.json and merges.txt of Qwen3. `time` starts each contender anew, lets it draw some pictures of
1024 x 1024 in nine steps, and says when the first file lay there, how long each further one took, and
the most memory: of the GPU, all processes together, and of the host without mapped files. What the page
cache holds of the folder, it holds for all. Needs torch with CUDA, diffusers, transformers,
nvidia-ml-py.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import torch

from result_file import write_result
from step_models import Setting

PROMPT = "a red fox in the snow"
SIDE, STEPS = 1024, 9
LONGEST_S = 300
INDEX = {"_class_name": "ZImagePipeline",
         "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
         "text_encoder": ["transformers", "Qwen3Model"],
         "tokenizer": ["transformers", "Qwen2Tokenizer"],
         "transformer": ["diffusers", "ZImageTransformer2DModel"],
         "vae": ["diffusers", "AutoencoderKL"]}


def make(options):
    from diffusers import (AutoencoderKL, FlowMatchEulerDiscreteScheduler,
                           ZImageTransformer2DModel)
    from transformers import Qwen3Config, Qwen3Model
    os.makedirs(options.folder)
    part = lambda name: os.path.join(options.folder, name)
    shutil.copytree(options.tokenizer, part("tokenizer"))
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(part("scheduler"))
    torch.manual_seed(1)
    setting = Setting()
    with torch.device("meta"):
        transformer = ZImageTransformer2DModel()
        text_encoder = Qwen3Model(Qwen3Config(
            vocab_size=151936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36,
            num_attention_heads=32, num_key_value_heads=8, head_dim=128,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}))
    setting.fill(transformer).save_pretrained(part("transformer"))
    setting.fill(text_encoder).save_pretrained(part("text_encoder"))
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=16,
        sample_size=SIDE, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False,
        use_post_quant_conv=False)
    vae.to(torch.bfloat16).save_pretrained(part("vae"))
    with open(part("model_index.json"), "w", encoding="utf-8") as file:
        json.dump(INDEX, file, indent=1)


def picture(folder, index):
    return os.path.join(folder, f"picture-{index:04}.png")


def draw(options):
    """What a diffusers script does."""
    from diffusers import ZImagePipeline
    pipe = ZImagePipeline.from_pretrained(options.folder, torch_dtype=torch.bfloat16).to("cuda")
    pipe.set_progress_bar_config(disable=True)
    if options.compile:
        pipe.transformer.compile_repeated_blocks(fullgraph=False)
    for index in range(options.images):
        generator = torch.Generator("cuda").manual_seed(index)
        image = pipe(PROMPT, height=SIDE, width=SIDE, num_inference_steps=STEPS,
                     guidance_scale=0.0, generator=generator).images[0]
        image.save(picture(options.output, index))


def host_gib(process):
    """Of a running process, without mapped files."""
    try:
        with open(f"/proc/{process}/status", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
    except OSError:
        return 0.0
    return sum(int(lines[key].split()[0]) for key in ("RssAnon", "RssShmem") if key in lines) / 2**20


def run(command, folder, images):
    """Starts a contender, and watches it."""
    import pynvml
    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    used = lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu).used / 2**30
    before, gpu_peak, host_peak = used(), 0.0, 0.0
    begin = time.time()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if time.time() - begin > LONGEST_S:
                process.kill()
                sys.exit(f"{command[0]}: not finished after {LONGEST_S} s")
            gpu_peak = max(gpu_peak, used() - before)
            host_peak = max(host_peak, host_gib(process.pid))
            time.sleep(0.02)
    if process.returncode != 0:
        sys.exit(f"{command[0]}: ended with code {process.returncode}")
    written = [os.path.getmtime(picture(folder, index)) for index in range(images)]
    return {"first_s": written[0] - begin,
            "further_s": (written[-1] - written[0]) / (images - 1),
            "gpu_peak_gib": gpu_peak, "host_peak_gib": host_peak}


def own(mode):
    return lambda options, output: [
        options.rtlynx, "generate", "--model", options.folder, "--mode", mode, "-p", PROMPT,
        "--steps", str(STEPS), "--size", f"{SIDE}x{SIDE}", "-n", str(options.images),
        "-o", os.path.join(output, "picture.png")]


def theirs(*arguments):
    return lambda options, output: [
        sys.executable, os.path.abspath(__file__), "draw", options.folder, "--output", output,
        "--images", str(options.images), *arguments]


CONTENDERS = {"rtlynx, dense": own("dense"), "rtlynx, norm": own("norm"), "diffusers": theirs(),
              "diffusers + torch.compile": theirs("--compile")}


def measure(options):
    rounds = {}
    for _ in range(options.rounds):
        for name, command_of in CONTENDERS.items():
            with tempfile.TemporaryDirectory() as output:
                row = run(command_of(options, output), output, options.images)
            rounds.setdefault(name, []).append(row)
            print(name, {key: round(value, 2) for key, value in row.items()}, flush=True)
    import diffusers
    import transformers
    write_result(options.json, {
        "diffusers": diffusers.__version__, "transformers": transformers.__version__,
        "side": SIDE, "steps": STEPS, "images": options.images, "contenders": [
            {"name": name, **{key: statistics.median(row[key] for row in rows)
                              for key in rows[0]}, "rounds": rows}
            for name, rows in rounds.items()]})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="write a folder with random weights")
    making.add_argument("--tokenizer", required=True, help="a folder with Qwen3's vocabulary")
    timing = commands.add_parser("time", help="draw with rtlynx and diffusers")
    timing.add_argument("--rtlynx", default="build/cuda/bin/rtlynx", help="the command line")
    timing.add_argument("--rounds", type=int, default=3)
    timing.add_argument("--json", required=True)
    drawing = commands.add_parser("draw", help="draw with diffusers, as `time` does")
    drawing.add_argument("--compile", action="store_true")
    drawing.add_argument("--output", required=True, help="a folder")
    for command in (making, timing, drawing):
        command.add_argument("folder")
    for command in (timing, drawing):
        command.add_argument("--images", type=int, default=4, help="at least 2")
    options = parser.parse_args()
    {"make": make, "time": measure, "draw": draw}[options.command](options)


if __name__ == "__main__":
    main()
