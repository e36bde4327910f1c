# SPDX-License-Identifier: Apache-2.0
"""Weights in e4m3: what src/layers/e4m3.h does for C++."""

import math

import torch

from ._error import Error

_LARGEST_CODE = 448.0


def unit_of(weights):
    """What a 1 in the codes of these weights stands for: the smallest power of two by which none
    leaves the range. Each is then rounded as it would be by itself."""
    largest = max(weight.abs().max().item() for weight in weights)
    if not math.isfinite(largest):
        raise Error("sparsify", "finite weights for e4m3", largest)
    return 1.0 if largest == 0 else 2.0 ** math.ceil(math.log2(largest / _LARGEST_CODE))


def codes_of(weight, unit):
    """weight / unit, rounded to e4m3."""
    return (weight.float() / unit).to(torch.float8_e4m3fn).contiguous()


def gain_of(transform):
    """At least the largest Euclidean norm of a row of a transform's outputs [K / g, g outputs, g
    inputs]: the next eighth, which most blocks of a model share. torch.compile makes a graph of a
    block for each value."""
    if transform is None:
        return 1.0
    return math.ceil(8 * transform.float().norm(dim=2).max().item()) / 8


def check_device(weight):
    """Raises where the kernels do not take e4m3. The CPU computes what they would."""
    if weight.device.type == "cuda" and torch.cuda.get_device_capability(weight.device) != (9, 0):
        raise Error("sparsify", "a GPU of compute capability 9.0 for e4m3",
                    torch.cuda.get_device_name(weight.device))
    if weight.device.type == "cuda" and weight.dtype == torch.float32:
        raise Error("sparsify", "float16 or bfloat16 weights for e4m3 on a GPU", weight.dtype)
