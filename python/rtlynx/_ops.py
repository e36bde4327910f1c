# SPDX-License-Identifier: Apache-2.0
"""Loads the operator library and tells torch the shapes its operators return."""

import math
import os
import pathlib

import torch
from torch.utils import _pytree as pytree

_FOLDER = pathlib.Path(__file__).parent
_LIBRARY = "librtlynx_ops.so"
_LEAST_TORCH = (2, 11)


def _candidate():
    """The library for this torch, and why that one."""
    override = os.environ.get("RTLYNX_OPS_LIBRARY")
    if override:
        return pathlib.Path(override), "RTLYNX_OPS_LIBRARY"
    if torch.version.cuda is not None and (_FOLDER / "cuda" / _LIBRARY).is_file():
        return _FOLDER / "cuda" / _LIBRARY, f"torch with CUDA {torch.version.cuda}"
    return _FOLDER / "cpu" / _LIBRARY, "torch without CUDA" if torch.version.cuda is None else \
        "a wheel that was built without nvcc"


def _load():
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _LEAST_TORCH:
        raise ImportError(f"rtlynx: required torch 2.11 or later, got {torch.__version__}")
    path, reason = _candidate()
    if not path.is_file():
        raise ImportError(
            f"rtlynx: required the operator library at {path} ({reason}), found no such file. "
            "Install the wheel (pip wheel ./python), or build the CMake target rtlynx_ops and set "
            "RTLYNX_OPS_LIBRARY to its path.")
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        cause = error.__cause__ or error
        raise ImportError(f"rtlynx: required an operator library for torch {torch.__version__}, "
                          f"got {path}: {cause}") from error
    return path, reason


library, library_reason = _load()


# The fakes check what decides the result's shape; the operators themselves check the rest.

def _channels(op, x, divisor):
    torch._check(x.dim() >= 1, lambda: f"{op}: required at least one dimension, got {x.dim()}")
    torch._check(
        x.shape[-1] % divisor == 0,
        lambda: f"{op}: required a last dimension divisible by {divisor}, got {list(x.shape)}")
    return x.shape[-1]


@torch.library.register_fake("rtlynx::sparsify24")
def _(x, norm=True):
    _channels("sparsify24", x, 4)
    return x.new_empty(x.shape), x.new_empty(x.shape[:-1], dtype=torch.float32)


def _operand_bytes(tokens, channels, e4m3):
    tile_channels, tile_bytes = (128, 5120) if e4m3 else (64, 4608)  # rtlynx/operand24.h
    return (tokens + 63) // 64 * ((channels + tile_channels - 1) // tile_channels) * tile_bytes


def _is_tiled(x, channels):
    # As is_tiled() in src/ops/pack_arguments.cpp.
    return x.device.type == "cuda" and x.dtype != torch.float32 and channels % 16 == 0


@torch.library.register_fake("rtlynx::pack")
def _(x, tail=None, producer="none", up=None, moments=None, weight=None, scale=None, shift=None,
      eps=1e-6, transform=None, down=None, norm=True, e4m3_unit=None, transform_gain=1.0,
      limit=None, tail_limit=None):
    channels = x.shape[-1] + (tail.shape[-1] if tail is not None else 0)
    torch._check(channels % 16 == 0,
                 lambda: f"pack: required channels divisible by 16, got {channels}")
    leading = x.shape[:-1]
    if _is_tiled(x, channels):
        size = _operand_bytes(math.prod(leading), channels, e4m3_unit is not None)
        operand = x.new_empty((size,), dtype=torch.uint8)
    else:
        dtype = x.dtype if e4m3_unit is None else torch.float8_e4m3fn
        operand = x.new_empty((*leading, channels), dtype=dtype)
    columns = down.shape[0] if down is not None else 0
    return (operand, x.new_empty(leading, dtype=torch.float32), x.new_empty((*leading, columns)))


@torch.library.register_fake("rtlynx::product")
def _(operand, row_scale, low, weights, ups, low_starts, biases, activations, gates, residuals):
    return [low.new_empty((*row_scale.shape, weight.shape[0])) for weight in weights]


@torch.library.register_fake("rtlynx::product_out")
def _(operand, row_scale, low, weights, ups, low_starts, biases, activations, gates, residuals,
      out, largest):
    return None


@torch.library.register_fake("rtlynx::pack_weight")
def _(weight):
    torch._check(weight.dim() == 2 and weight.shape[1] % 16 == 0,
                 lambda: "pack_weight: required a weight [N, K], K divisible by 16, "
                         f"got {list(weight.shape)}")
    outputs, channels = weight.shape
    if (_is_tiled(weight, channels) and outputs % 8 == 0
            and torch.cuda.get_device_capability(weight.device) == (9, 0)):
        return weight.new_empty((_operand_bytes(outputs, channels, False),), dtype=torch.uint8)
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


@torch.library.register_fake("rtlynx::weight_product")
def _(x, low, weights, outputs, ups, low_starts, biases, activations, gates, residuals):
    return [x.new_empty((*x.shape[:-1], count)) for count in outputs]


@torch.library.register_fake("rtlynx::weight_product_out")
def _(x, low, weights, outputs, ups, low_starts, biases, activations, gates, residuals, out):
    return None


@torch.library.register_fake("rtlynx::linear24")
def _(x, weight, bias=None, lora_down=None, lora_up=None, norm=True):
    channels = _channels("linear24", x, 16)
    torch._check(weight.dim() == 2 and weight.shape[1] == channels,
                 lambda: f"linear24: required weight [N, {channels}] to go with x, "
                         f"got {list(weight.shape)}")
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


@torch.library.register_fake("rtlynx::residual_norm")
def _(x, y=None, gate=None, tanh_gate=False, post_weight=None, post_eps=1e-6, norm="layer",
      eps=1e-6, weight=None, scale=None, shift=None, want_normed=False):
    leading = x.shape[:-1]
    return (x.new_empty(x.shape), x.new_empty((*leading, 2), dtype=torch.float32),
            x.new_empty((*leading, x.shape[-1] if want_normed else 0)))


@torch.library.register_fake("rtlynx::head_norm")
def _(q, k, v, q_weights, k_weights, rotation, head_dim, eps=1e-6):
    images, _, columns = q[0].shape
    tokens = sum(stream.shape[1] for stream in q)
    joint = q[0].new_empty((images, tokens, columns))
    return (joint, torch.empty_like(joint),
            q[0].new_empty((images, tokens, columns if v else 0)))


@torch.library.register_fake("rtlynx::swiglu")
def _(gate, up):
    return gate.new_empty(gate.shape)


# Nothing here has a derivative. A result that a loss depends on says so when it is asked for one,
# rather than passing no gradient on.

def _refuse(op):
    def backward(ctx, *gradients):
        raise RuntimeError(f"rtlynx.{op} has no gradient: call it under torch.no_grad() or "
                           "torch.inference_mode(), or train the dense layer")
    return backward


for _name in ("sparsify24", "pack", "product", "pack_weight", "weight_product", "linear24",
              "residual_norm", "head_norm",
              "swiglu"):
    torch.library.register_autograd(f"rtlynx::{_name}", _refuse(_name))


def _refuse_what_writes(name):
    operator = getattr(torch.ops.rtlynx, name)

    @torch.library.impl(f"rtlynx::{name}", "Autograd")
    def _(*arguments):
        # What it writes to would not depend on the arguments: there is no result to ask later.
        tensors = pytree.tree_leaves(arguments)
        if torch.is_grad_enabled() and any(
                isinstance(tensor, torch.Tensor) and tensor.requires_grad for tensor in tensors):
            _refuse(name)(None)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*arguments)


for _name in ("product_out", "weight_product_out"):
    _refuse_what_writes(_name)
