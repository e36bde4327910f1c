#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains a wider lynx-mini on scenes with dead leaves.

    tools/train_wide.py --scenes build/cuda/bin/draw_scenes --minutes 12 -o wide

The model is diffusers' FluxTransformer2DModel in lynx-mini's form, but wider; text, patches and loss are
lynx-mini's (src/study/train.cpp). Every scene is drawn once, by `draw_scenes` in --drawers processes, while
the device trains. The folder is one that the commands of rtlynx read; training.json in it says what was
done. The course of the learning rate is fitted to the time left once the blocks are compiled and the time
of a step is known; where less than --min-steps fit, the run ends there instead of going on to no end.
"""

import argparse
import json
import math
import pathlib
import queue
import shutil
import subprocess
import threading
import time

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

SIDE, PATCH, TEXT_TOKENS = 64, 4, 24
GRID = SIDE // PATCH
FORM = pathlib.Path(__file__).resolve().parent.parent / "models" / "lynx-mini"
MEASURED = (20, 60)  # steps whose time fits the schedule, behind those that compile


class TextEncoder(torch.nn.Module):
    """A table of words and one of places; pooled is their mean. src/pipeline/text_encoder.cpp."""

    def __init__(self, words, channels):
        super().__init__()
        self.token_embedding = torch.nn.Parameter(torch.randn(words, channels))
        self.position_embedding = torch.nn.Parameter(torch.randn(TEXT_TOKENS, channels))

    def forward(self, ids):  # [B, L] -> [B, L, c], [B, c]
        tokens = torch.nn.functional.embedding(ids, self.token_embedding) + self.position_embedding
        return tokens, tokens.mean(1)


class Scenes:
    """Batches of scenes in order, on the device, drawn and copied ahead of their use."""

    def __init__(self, options, batches):
        self.batch = options.batch
        self.device = options.device
        self.ready = queue.Queue(maxsize=8)
        self.waited = 0.0  # seconds that the trainer had no batch
        self.drawers = [
            subprocess.Popen([options.scenes, "--leaves", f"--seed={options.seed}", f"--batch={self.batch}",
                              f"--batches={batches}", f"--first={i}", f"--stride={options.drawers}"],
                             stdout=subprocess.PIPE)
            for i in range(options.drawers)]
        threading.Thread(target=self.read, args=(batches,), daemon=True).start()

    def read(self, batches):
        pictures = self.batch * SIDE * SIDE * 3
        size = pictures + self.batch * TEXT_TOKENS
        for i in range(batches):
            data = torch.empty(size, dtype=torch.uint8, pin_memory=self.device == "cuda")
            if self.drawers[i % len(self.drawers)].stdout.readinto(data.numpy()) != size:
                self.ready.put(None)
                return
            self.ready.put((data[:pictures].view(self.batch, SIDE, SIDE, 3),
                            data[pictures:].view(self.batch, TEXT_TOKENS)))

    def next(self):
        began = time.time()
        drawn = self.ready.get()
        self.waited += time.time() - began
        if drawn is None:
            raise SystemExit("train_wide: draw_scenes ended early")
        return [part.to(self.device, non_blocking=True) for part in drawn]

    def close(self):
        for drawer in self.drawers:
            drawer.terminate()


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenes", required=True, help="the program draw_scenes")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=12, help="for all, the start included")
    parser.add_argument("--min-steps", type=int, default=3500, help="refused if they take longer")
    parser.add_argument("--max-steps", type=int, default=20000)
    parser.add_argument("--heads", type=int, default=16, help="of 64 channels")
    parser.add_argument("--double-blocks", type=int, default=2)
    parser.add_argument("--single-blocks", type=int, default=4)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--warm-up", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drawers", type=int, default=6, help="processes that draw scenes")
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


def rate_at(options, step, steps):
    """Linear warm-up, plateau, cosine to zero over the last 40 %."""
    warm = min(1, (step + 1) / options.warm_up)
    share = max(0, (step / steps - 0.6) / 0.4)
    return options.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(share, 1)))


class Schedule:
    """How many steps there are: --max-steps until the time of a step is known."""

    def __init__(self, options, began):
        self.options, self.end = options, began + 60 * options.minutes
        self.steps = options.max_steps

    def after(self, step):
        if step == MEASURED[0]:
            self.measured_from = self.now()
        if step == MEASURED[1]:
            now = self.now()
            each = (now - self.measured_from) / (MEASURED[1] - MEASURED[0])
            fitting = step + int((self.end - now) / each)
            if fitting < self.options.min_steps:
                raise SystemExit(f"train_wide: required {self.options.min_steps} steps within --minutes, "
                                 f"got time for {fitting} of {each:.4f} s")
            self.steps = min(fitting, self.options.max_steps)
            print(f"{each:.4f} s a step, {self.steps} steps", flush=True)

    def now(self):
        if self.options.device == "cuda":
            torch.cuda.synchronize()
        return time.time()


def train(options, model, text):
    parameters = [*model.parameters(), *text.parameters()]
    weights = [p.detach() for p in parameters]
    averages = [w.clone() for w in weights]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    schedule = options.schedule
    scenes = Scenes(options, schedule.steps)
    img_ids = position_ids(options.device)
    loss_sum, losses, step = torch.zeros((), device=options.device), [], 0
    try:
        while step < schedule.steps:
            with torch.autocast(options.device, torch.bfloat16):
                loss = loss_of(model, text, *scenes.next(), img_ids)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
            for group in optimizer.param_groups:
                group["lr"] = rate_at(options, step, schedule.steps)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            # From zero on, an average would remember the start: it is short at first.
            torch._foreach_lerp_(averages, weights, 1 - min(0.999, step / (step + 9)))
            loss_sum += loss.detach()
            if step % 100 == 0 or step == schedule.steps:
                losses.append({"step": step, "loss": loss_sum.item() / ((step - 1) % 100 + 1)})
                loss_sum.zero_()
                if not math.isfinite(losses[-1]["loss"]):
                    raise SystemExit(f"train_wide: the loss is not finite at step {step}")
                print(f"step {step}: loss {losses[-1]['loss']:.4f}, {scenes.waited:.1f} s without scenes",
                      flush=True)
            schedule.after(step)
    finally:
        scenes.close()
    torch._foreach_copy_(weights, averages)
    return step, losses, scenes.waited


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
    began = time.time()
    options.schedule = Schedule(options, began)
    torch.manual_seed(options.seed)
    # The cuDNN attention backward of torch 2.11 made illegal accesses at sequence lengths like ours.
    torch.backends.cuda.enable_cudnn_sdp(False)
    model, text = make_model(options)
    model.to(options.device)
    text.to(options.device)
    if not options.no_compile:
        model.compile_repeated_blocks(fullgraph=True)
    steps, losses, waited = train(options, model, text)
    report = {
        "parameters": sum(p.numel() for p in [*model.parameters(), *text.parameters()]),
        "channels": 64 * options.heads, "double_blocks": options.double_blocks,
        "single_blocks": options.single_blocks, "seed": options.seed, "steps": steps, "batch": options.batch,
        "learning_rate": options.learning_rate, "warm_up": options.warm_up, "average": 0.999,
        "seconds": round(time.time() - began, 1), "seconds_without_scenes": round(waited, 1),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu", "losses": losses}
    save(options, model, text, report)


if __name__ == "__main__":
    main()
