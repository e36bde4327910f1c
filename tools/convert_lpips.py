#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the weights of LPIPS as the one file that `rtlynx evaluate --lpips` reads.

    tools/convert_lpips.py --network alex --backbone alexnet-owt-7be5be79.pth \\
        --heads alex.pth -o lpips-alex.safetensors

Both files are on this machine already; nothing is downloaded. The backbone is torchvision's state
dict of AlexNet ("alex") or VGG-16 ("vgg"), classifier and all; the heads are the file
lpips/weights/v0.1/alex.pth or vgg.pth of the Python package lpips 0.1.
"""

import argparse
import os
import pathlib
import sys

import torch
from safetensors.torch import save_file

# Places of the convolutions in torchvision's `features`.
CONVOLUTIONS = {"alex": (0, 3, 6, 8, 10),
                "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}
HEADS = 5


def read_state_dict(path):
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds
        sys.exit(f"convert_lpips: {path}: required a state dict of torch.save, got: {error}")
    if not isinstance(state, dict):
        sys.exit(f"convert_lpips: {path}: required a state dict, got {type(state).__name__}")
    return state


def take(state, name, path):
    if name not in state:
        sys.exit(f"convert_lpips: {path}: required a tensor {name}, got {', '.join(state)[:200]}")
    return state[name].float().contiguous()


def convert(network, backbone, heads):
    """The tensors that src/study/lpips.h names, by name."""
    tensors = {}
    state = read_state_dict(backbone)
    for index, place in enumerate(CONVOLUTIONS[network]):
        for part in ("weight", "bias"):
            tensors[f"conv.{index}.{part}"] = take(state, f"features.{place}.{part}", backbone)
    state = read_state_dict(heads)
    for index in range(HEADS):
        # [1, C, 1, 1], behind a dropout that is off when measuring.
        tensors[f"linear.{index}"] = take(state, f"lin{index}.model.1.weight", heads).flatten()
    return tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=CONVOLUTIONS, default="alex")
    parser.add_argument("--backbone", type=pathlib.Path, required=True,
                        help="torchvision's weights (.pth)")
    parser.add_argument("--heads", type=pathlib.Path, required=True,
                        help="the lpips package's linear heads (.pth)")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, help="safetensors")
    arguments = parser.parse_args()
    if arguments.output.resolve() in (arguments.backbone.resolve(), arguments.heads.resolve()):
        parser.error(f"--output: required another file than those that are read, got "
                     f"{arguments.output}")
    tensors = convert(arguments.network, arguments.backbone, arguments.heads)
    unfinished = arguments.output.with_name(arguments.output.name + ".partial")
    save_file(tensors, unfinished,
              metadata={"format": "rtlynx lpips 1", "network": arguments.network})
    os.replace(unfinished, arguments.output)


if __name__ == "__main__":
    main()
