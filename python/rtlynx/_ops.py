# SPDX-License-Identifier: Apache-2.0
"""Loads the operator library and tells torch the shapes its operators return."""

import math
import os
import pathlib

import torch

_LIBRARY = "librtlynx_ops.so"


def _load():
    override = os.environ.get("RTLYNX_OPS_LIBRARY")
    path = pathlib.Path(override) if override else pathlib.Path(__file__).parent / _LIBRARY
    if not path.is_file():
        raise ImportError(
            f"rtlynx: required the operator library at {path} "
            f"({'from RTLYNX_OPS_LIBRARY' if override else 'beside the Python package'}), "
            "found no such file. Build the CMake target rtlynx_ops and set RTLYNX_OPS_LIBRARY to "
            "its path.")
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        reason = error.__cause__ or error
        raise ImportError(f"rtlynx: required an operator library for torch {torch.__version__}, "
                          f"got {path}: {reason}") from error


_load()


# The fakes check what decides the result's shape; the operators themselves check the rest.

def _rows(op, x, divisor):
    torch._check(x.dim() >= 1, lambda: f"{op}: required at least one dimension, got {x.dim()}")
    torch._check(
        x.shape[-1] % divisor == 0,
        lambda: f"{op}: required a last dimension divisible by {divisor}, got {list(x.shape)}")
    return math.prod(x.shape[:-1])


@torch.library.register_fake("rtlynx::sparsify24")
def _(x, norm):
    rows = _rows("sparsify24", x, 4)
    return x.new_empty(x.shape), x.new_empty((rows,), dtype=torch.float32)


@torch.library.register_fake("rtlynx::pack24")
def _(x):
    rows = _rows("pack24", x, 16)
    columns = x.shape[-1]
    return (x.new_empty((*x.shape[:-1], columns // 2)),
            x.new_empty((*x.shape[:-1], columns // 16), dtype=torch.int16),
            x.new_empty((rows,), dtype=torch.float32))


@torch.library.register_fake("rtlynx::unpack24")
def _(values, metadata):
    _rows("unpack24", values, 8)
    return values.new_empty((*values.shape[:-1], 2 * values.shape[-1]))


def _linear(op, x, weight):
    _rows(op, x, 4)
    torch._check(weight.dim() == 2 and weight.shape[1] == x.shape[-1],
                 lambda: f"{op}: required weight [N, {x.shape[-1]}] to go with x, "
                         f"got {list(weight.shape)}")
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


@torch.library.register_fake("rtlynx::linear24")
def _(x, weight, bias, lora_down, lora_up, norm):
    return _linear("linear24", x, weight)


@torch.library.register_fake("rtlynx::linear24_auto")
def _(x, weight, bias, lora_down, lora_up, norm):
    return _linear("linear24_auto", x, weight)
