#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times rtlynx.calibrate on a FLUX.1 transformer with random weights, made on the device.

Run it again with the same arguments to go on where a time limit stopped it: the seconds of all runs are
in OUT.seconds.json, but for those behind the last drawing of one that was cut off.
"""

import argparse
import datetime
import json
import pathlib
import time

import torch
from diffusers import FluxTransformer2DModel

import rtlynx

IMAGE, TEXT = 4096, 512


def transformer(options):
    torch.manual_seed(0)
    with torch.device(options.device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        model = FluxTransformer2DModel(num_layers=options.blocks,
                                       num_single_layers=options.singles, guidance_embeds=True)
        torch.set_default_dtype(before)
    return model.eval()


def drawing(model, options, log):
    def run():
        begin = time.monotonic()
        generator = torch.Generator(options.device).manual_seed(1)
        random = lambda *shape: torch.randn(shape, generator=generator, device=options.device,
                                            dtype=torch.bfloat16)
        ids = lambda tokens: torch.zeros(tokens, 3, device=options.device)
        with torch.inference_mode():
            for _ in range(options.samples):
                model(hidden_states=random(1, options.image, 64),
                      encoder_hidden_states=random(1, options.text, 4096),
                      pooled_projections=random(1, 768), timestep=random(1).abs(),
                      guidance=random(1).abs(), img_ids=ids(options.image),
                      txt_ids=ids(options.text))
        log(time.monotonic() - begin)
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default="calibrated.safetensors")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--samples", type=int, default=64, help="forwards of run")
    parser.add_argument("--captured", type=int, default=256,
                        help="forwards to take through the blocks at most; 0: run is repeated")
    parser.add_argument("--memory", default="8GiB", help="for the sums of a pass")
    parser.add_argument("--gpu-gib", type=float, help="fail where more of the GPU is needed")
    parser.add_argument("--method", default="low-rank")
    parser.add_argument("--transform", default="none")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=19)
    parser.add_argument("--singles", type=int, default=38)
    parser.add_argument("--image", type=int, default=IMAGE, help="image tokens")
    parser.add_argument("--text", type=int, default=TEXT, help="text tokens")
    options = parser.parse_args()

    kept = options.out.with_name(options.out.name + ".seconds.json")
    earlier = json.loads(kept.read_text()) if kept.exists() else {"draw": [], "seconds": 0.0}
    if options.gpu_gib:
        whole = torch.cuda.get_device_properties(0).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction(options.gpu_gib / whole)
    model = transformer(options)
    begin = time.monotonic()
    draws = list(earlier["draw"])

    def state():
        return {"draw": draws, "seconds": earlier["seconds"] + time.monotonic() - begin}

    def log(seconds):
        draws.append(seconds)
        kept.write_text(json.dumps(state()))

    rtlynx.calibrate(model, drawing(model, options, log), options.out, method=options.method,
                     transform=options.transform, rank=options.rank, memory=options.memory,
                     captured=options.captured)
    on_gpu = options.device != "cpu"
    print(json.dumps({
        "gpu": torch.cuda.get_device_name() if on_gpu else "none",
        "date": datetime.date.today().isoformat(), "torch": torch.__version__,
        "method": options.method, "transform": options.transform,
        "samples": options.samples, "captured": options.captured, "draws": len(draws),
        "memory": options.memory, "gpu_gib": options.gpu_gib,
        "draw_seconds": sum(draws), "seconds": state()["seconds"],
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
        "peak_reserved_gib": torch.cuda.max_memory_reserved() / 2**30 if on_gpu else None}))
    kept.unlink()


if __name__ == "__main__":
    main()
