#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/goldens/lpips.json: what the package lpips computes, for src/study/lpips.cpp.

Needs lpips 0.1.4 and torchvision. The weights are not trained ones, which are not ours to ship, but
numbers that this script and tests/study/lpips_test.cpp both compute, of the real networks' shapes.
"""

import json
import math
import pathlib
from importlib.metadata import version

import lpips
import numpy as np
import torch

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens"
HEIGHT, WIDTH, PAIRS = 40, 48, 2


def fractions(stream, count):
    """`count` numbers in [0, 1), multiples of 2^-24: splitmix64 of 2^32 stream + index."""
    with np.errstate(over="ignore"):
        z = np.arange(count, dtype=np.uint64) + np.uint64(stream << 32)
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-24


def drawn(stream, shape, low, high):
    values = low + (high - low) * fractions(stream, math.prod(shape))
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def fill(model):
    stream = 0
    convolutions = [module for module in model.net.modules()
                    if isinstance(module, torch.nn.Conv2d)]
    for convolution in convolutions:
        bound = math.sqrt(6.0 / math.prod(convolution.weight.shape[1:]))
        convolution.weight.copy_(drawn(stream, convolution.weight.shape, -bound, bound))
        convolution.bias.copy_(drawn(stream + 1, convolution.bias.shape, -0.1, 0.1))
        stream += 2
    for head in model.lins:
        weight = head.model[-1].weight
        weight.copy_(drawn(stream, weight.shape, 0.0, 1.0))
        stream += 1


def picture(stream):
    """[1, 3, H, W] in [-1, 1], of bytes [H, W, 3]."""
    values = np.floor(256 * fractions(stream, HEIGHT * WIDTH * 3)).reshape(HEIGHT, WIDTH, 3)
    return torch.from_numpy(values).permute(2, 0, 1)[None].float() / 127.5 - 1


def main():
    torch.set_num_threads(1)
    cases = []
    for network in ("alex", "vgg"):
        model = lpips.LPIPS(net=network, pretrained=False, pnet_rand=True, verbose=False)
        with torch.no_grad():
            fill(model)
            distances = [model(picture(1000 + 2 * pair), picture(1001 + 2 * pair)).item()
                         for pair in range(PAIRS)]
        cases.append({"network": network, "distances": distances})
    golden = {"made_with": f"tools/make_lpips_goldens.py, lpips {version('lpips')}, "
                           f"torch {torch.__version__}",
              "height": HEIGHT, "width": WIDTH, "cases": cases}
    (GOLDENS / "lpips.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
