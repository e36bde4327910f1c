#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains a wider lynx-mini on scenes with dead leaves.

    tools/train_wide.py --scenes build/cuda/bin/draw_scenes -o wide

The model is diffusers' FluxTransformer2DModel in lynx-mini's form, but wider; text, patches and loss are
lynx-mini's (src/mini/train.cpp). Every scene is drawn once, by `draw_scenes` in --drawers processes, while
the device trains. The folder is one that the commands of rtlynx read; training.json in it says what was
done. Ctrl-C (or SIGTERM) writes checkpoint.pt there, from which the same command goes on.
"""

import argparse
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import time

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

SIDE, PATCH, TEXT_TOKENS = 64, 4, 24
GRID = SIDE // PATCH
PICTURE = SIDE * SIDE * 3
FORM = pathlib.Path(__file__).resolve().parent.parent / "models" / "lynx-mini"
REPORTED = 100  # steps whose mean loss is one entry of the report


class TextEncoder(torch.nn.Module):
    """A table of words and one of places; pooled is their mean. src/mini/word_encoder.cpp."""

    def __init__(self, words, channels):
        super().__init__()
        self.token_embedding = torch.nn.Parameter(torch.randn(words, channels))
        self.position_embedding = torch.nn.Parameter(torch.randn(TEXT_TOKENS, channels))

    def forward(self, ids):  # [B, L] -> [B, L, c], [B, c]
        tokens = torch.nn.functional.embedding(ids, self.token_embedding) + self.position_embedding
        return tokens, tokens.mean(1)


class Drawers(torch.utils.data.IterableDataset):
    """Batches of scenes in order from `first` on; each worker process has a draw_scenes of its own to read."""

    def __init__(self, options, first):
        self.options, self.first = options, first
        self.size = options.batch * (PICTURE + TEXT_TOKENS)

    def __iter__(self):
        worker, options = torch.utils.data.get_worker_info(), self.options
        first = self.first + worker.id
        command = [options.scenes, "--leaves", f"--seed={options.seed}", f"--batch={options.batch}",
                   f"--batches={options.steps}", f"--first={first}", f"--stride={worker.num_workers}"]
        os.setpgrp()  # a Ctrl-C is for the trainer alone
        with subprocess.Popen(command, stdout=subprocess.PIPE) as drawer:
            for _ in range(first, options.steps, worker.num_workers):
                data = torch.empty(self.size, dtype=torch.uint8)
                if drawer.stdout.readinto(data.numpy()) != self.size:
                    raise RuntimeError("draw_scenes ended early")
                yield data


class Scenes:
    """What Drawers draw, on the device, drawn and copied ahead of their use."""

    def __init__(self, options, first):
        self.batch, self.device = options.batch, options.device
        self.waited = 0.0  # seconds that the trainer had no batch
        # One process cannot read as fast as a GPU trains: 0.14 s a batch beside an H200's 0.07 s a step.
        self.batches = iter(torch.utils.data.DataLoader(
            Drawers(options, first), batch_size=None, num_workers=options.drawers,
            pin_memory=options.device == "cuda",
            generator=torch.Generator()))  # its seed: none of the trainer's random numbers

    def next(self):  # [B, H, W, 3], [B, L], bytes
        began = time.time()
        data = next(self.batches)
        self.waited += time.time() - began
        data = data.to(self.device, non_blocking=True)
        pictures = self.batch * PICTURE
        return (data[:pictures].view(self.batch, SIDE, SIDE, 3),
                data[pictures:].view(self.batch, TEXT_TOKENS))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenes", required=True, help="the program draw_scenes")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--heads", type=int, default=16, help="of 64 channels")
    parser.add_argument("--double-blocks", type=int, default=2)
    parser.add_argument("--single-blocks", type=int, default=4)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--warm-up", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drawers", type=int, default=12, help="processes that draw scenes")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args()


def make_model(options):
    config = json.loads((FORM / "transformer" / "config.json").read_text())
    config.pop("_class_name")
    config.update(num_attention_heads=options.heads, num_layers=options.double_blocks,
                  num_single_layers=options.single_blocks)
    model = FluxTransformer2DModel(**config)
    # Every block starts as the identity.
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and (name == "proj_out" or "norm" in name):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    words = json.loads((FORM / "text_encoder" / "vocabulary.json").read_text())["words"]
    return model, TextEncoder(len(words), config["joint_attention_dim"])


def tokens_of(pixels):  # [B, 3, H, W] -> [B, I, 48], as FLUX packs latents
    batch = pixels.shape[0]
    patches = pixels.view(batch, 3, GRID, PATCH, GRID, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, GRID * GRID, 3 * PATCH * PATCH)


def position_ids(device):  # [I, 3]: 0, row, column
    places = torch.arange(GRID, device=device, dtype=torch.float32)
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).view(-1, 3)


def loss_of(model, text, pictures, ids, img_ids):
    """Flow matching: x_t = (1 - t) x + t noise, and the velocity is noise - x."""
    clean = tokens_of(pictures.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous())
    noise = torch.randn_like(clean)
    t = torch.sigmoid(1.2 * torch.randn(clean.shape[0], device=clean.device))
    mix = t.view(-1, 1, 1)
    tokens, pooled = text(ids.long())
    velocity = model(hidden_states=(1 - mix) * clean + mix * noise, encoder_hidden_states=tokens,
                     pooled_projections=pooled, timestep=t, img_ids=img_ids,
                     txt_ids=torch.zeros(TEXT_TOKENS, 3, device=clean.device), return_dict=False)[0]
    return torch.nn.functional.mse_loss(velocity.float(), noise - clean)


def rate_at(options, step):
    """Linear warm-up, plateau, cosine to zero over the last 40 %."""
    warm = min(1, (step + 1) / options.warm_up)
    share = max(0, (step / options.steps - 0.6) / 0.4)
    return options.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(share, 1)))


class Weights:
    """The model's weights, their running averages, which are the result, and the optimizer."""

    def __init__(self, *modules):
        self.parameters = [p for module in modules for p in module.parameters()]
        self.values = [p.detach() for p in self.parameters]
        self.averages = [value.clone() for value in self.values]
        self.optimizer = torch.optim.AdamW(self.parameters, betas=(0.9, 0.98), weight_decay=0.01, fused=True)

    def step(self, rate, step):
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # From zero on, an average would remember the start: it is short at first.
        torch._foreach_lerp_(self.averages, self.values, 1 - min(0.999, (step + 1) / (step + 10)))

    def state(self):
        return {"values": self.values, "averages": self.averages, "optimizer": self.optimizer.state_dict()}

    def load(self, state):
        torch._foreach_copy_(self.values, state["values"])
        torch._foreach_copy_(self.averages, state["averages"])
        self.optimizer.load_state_dict(state["optimizer"])

    def finish(self):
        torch._foreach_copy_(self.values, self.averages)


class Interrupted:
    """True once the run was asked to end."""

    def __init__(self):
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.ask)

    def ask(self, *_):
        self.asked = True

    def __bool__(self):
        return self.asked


class Run:
    """What a checkpoint keeps beside the weights: where the run is, its random numbers, its report."""

    def __init__(self, options):
        self.file = options.output / "checkpoint.pt"
        self.device = options.device
        self.settings = {name: value for name, value in vars(options).items()
                         if name not in ("scenes", "output", "drawers", "device", "no_compile")}
        self.began = time.time()
        self.seconds = self.waited = 0.0
        self.step, self.losses = 0, []
        self.loss_sum = torch.zeros((), device=options.device)

    def add_loss(self, loss, scenes):
        self.step += 1
        self.loss_sum += loss.detach()
        steps = self.settings["steps"]
        if self.step % REPORTED and self.step != steps:
            return
        mean = self.loss_sum.item() / ((self.step - 1) % REPORTED + 1)
        self.loss_sum.zero_()
        self.losses.append({"step": self.step, "loss": mean})
        if not math.isfinite(mean):
            raise SystemExit(f"train_wide: the loss is not finite at step {self.step}")
        print(f"step {self.step} of {steps}: loss {mean:.4f}, {time.time() - self.began:.1f} s, "
              f"{scenes.waited:.1f} s without scenes", flush=True)

    def add_times(self, scenes):
        self.seconds += time.time() - self.began
        self.waited += scenes.waited

    def keep(self, weights):
        random = {"cpu": torch.get_rng_state()}
        if self.device == "cuda":
            random["cuda"] = torch.cuda.get_rng_state()
        state = {"settings": self.settings, "step": self.step, "losses": self.losses, "seconds": self.seconds,
                 "waited": self.waited, "loss_sum": self.loss_sum, "random": random, "weights": weights.state()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.file)

    def resume(self, weights):
        if not self.file.exists():
            return
        state = torch.load(self.file, map_location=self.device)
        for name, value in state["settings"].items():
            if self.settings[name] != value:
                raise SystemExit(f"train_wide: required --{name.replace('_', '-')} {value} as in {self.file}, "
                                 f"got {self.settings[name]}")
        self.step, self.losses = state["step"], state["losses"]
        self.seconds, self.waited = state["seconds"], state["waited"]
        self.loss_sum.copy_(state["loss_sum"])
        torch.set_rng_state(state["random"]["cpu"].cpu())
        if self.device == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"].cpu())
        weights.load(state["weights"])
        print(f"going on from step {self.step}", flush=True)


def train(options, model, text):
    """The report of a run that is complete."""
    run, weights = Run(options), Weights(model, text)
    run.resume(weights)
    scenes, interrupted = Scenes(options, run.step), Interrupted()
    img_ids = position_ids(options.device)
    while run.step < options.steps and not interrupted:
        with torch.autocast(options.device, torch.bfloat16):
            loss = loss_of(model, text, *scenes.next(), img_ids)
        loss.backward()
        weights.step(rate_at(options, run.step), run.step)
        run.add_loss(loss, scenes)
    run.add_times(scenes)
    if run.step < options.steps:
        run.keep(weights)
        raise SystemExit(f"train_wide: ended at step {run.step} of {options.steps}; "
                         f"the same command goes on from {run.file}")
    weights.finish()
    return {"parameters": sum(p.numel() for p in weights.parameters), "channels": 64 * options.heads,
            **run.settings, "average": 0.999, "seconds": round(run.seconds, 1),
            "seconds_without_scenes": round(run.waited, 1), "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
            "losses": run.losses}


def save(options, model, text, report):
    """lynx-mini's folder with other weights, in bf16 as rtlynx writes them."""
    folder = options.output
    for part in ("scheduler", "text_encoder"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for file in (FORM / part).glob("*.json"):
            shutil.copy(file, folder / part)
    model.to("cpu", torch.bfloat16).save_pretrained(folder / "transformer")
    save_file({name: p.detach().to("cpu", torch.bfloat16) for name, p in text.named_parameters()},
              folder / "text_encoder" / "model.safetensors")
    (folder / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    index = json.loads((FORM / "model_index.json").read_text())
    index["scene_background"] = "dead leaves"
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")  # last: it is complete


def main():
    options = parse()
    torch.manual_seed(options.seed)
    # The cuDNN attention backward of torch 2.11 made illegal accesses at sequence lengths like ours.
    torch.backends.cuda.enable_cudnn_sdp(False)
    model, text = make_model(options)
    model.to(options.device)
    text.to(options.device)
    if not options.no_compile:
        model.compile_repeated_blocks(fullgraph=True)
    report = train(options, model, text)
    save(options, model, text, report)
    (options.output / "checkpoint.pt").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
