#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times rtlynx.calibrate on a full-size transformer with random weights, made on the device.

Run it again with the same arguments to go on where a time limit stopped it: the seconds of all runs are
in OUT.seconds.json, but for those behind the last drawing of one that was cut off.
"""

import argparse
import datetime
import json
import pathlib
import time

import torch

import rtlynx
from step_models import FAMILIES, Setting


RANDOM = ("hidden_states", "encoder_hidden_states", "pooled_projections", "x", "cap_feats")


def drawing(step, samples, log):
    """A run that calls the model with random tokens, the same each time."""
    def again(value):
        if isinstance(value, list):
            return [again(part) for part in value]
        return torch.randn_like(value)

    def run():
        begin = time.monotonic()
        torch.manual_seed(1)
        with torch.inference_mode():
            for _ in range(samples):
                step.model(**{name: again(value) if name in RANDOM else value
                              for name, value in step.arguments.items()})
        log(time.monotonic() - begin)
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default="calibrated.safetensors")
    parser.add_argument("--family", choices=sorted(FAMILIES), default="flux")
    parser.add_argument("--samples", type=int, default=64, help="forwards of run")
    parser.add_argument("--captured", type=int, default=256,
                        help="forwards to take through the blocks at most; 0: run is repeated")
    parser.add_argument("--memory", default="8GiB", help="for the sums of a pass")
    parser.add_argument("--gpu-gib", type=float, help="fail where more of the GPU is needed")
    parser.add_argument("--method", default="low-rank")
    parser.add_argument("--transform", default="none")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--tiny", action="store_true", help="a small model on the CPU")
    options = parser.parse_args()

    kept = options.out.with_name(options.out.name + ".seconds.json")
    earlier = json.loads(kept.read_text()) if kept.exists() else {"draw": [], "seconds": 0.0}
    if options.gpu_gib:
        whole = torch.cuda.get_device_properties(0).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction(options.gpu_gib / whole)
    family = FAMILIES[options.family]
    step = family.make(Setting(options.tiny), 128 if options.tiny else family.side,
                       32 if options.tiny else family.text, batch=1)
    begin = time.monotonic()
    draws = list(earlier["draw"])

    def state():
        return {"draw": draws, "seconds": earlier["seconds"] + time.monotonic() - begin}

    def log(seconds):
        draws.append(seconds)
        kept.write_text(json.dumps(state()))

    result = rtlynx.calibrate(
        step.model, drawing(step, options.samples, log), options.out, method=options.method,
        transform=options.transform, rank=options.rank, memory=options.memory,
        captured=options.captured)
    on_gpu = not options.tiny
    print(json.dumps({
        "family": options.family, "tokens": step.tokens, "layers": len(result.layers),
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
