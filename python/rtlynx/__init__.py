# SPDX-License-Identifier: Apache-2.0
"""Online 2:4 activation sparsity for Diffusion Transformers: the operators of rtlynx.

Of every four consecutive channels of a token the two of largest magnitude stay (the lower channel
wins a tie, NaN beats everything), and the token is rescaled by ``s = ||x|| / ||x~||``, x~ being
what is left of it.

All tensors of a call share one device and, except metadata and scale, one dtype: float32, float16
or bfloat16. Any strides are taken; results are contiguous, share no memory with the arguments and
pass no gradient back. Invalid arguments raise RuntimeError, saying what was required and what
arrived.

On a GPU of compute capability 8.0 or later ``linear24`` runs on the Sparse Tensor Cores for float16
and bfloat16, K divisible by 16, N by 8 and a rank divisible by 16 up to 128, and copies arguments
that are not contiguous and 16-byte aligned. Elsewhere it writes the zeros out and multiplies them:
right, and not faster than a dense layer. ``pack24`` and ``unpack24`` take float16 and bfloat16
there.
"""

import torch

from . import _ops  # noqa: F401  (loads and registers the operators)

__all__ = ["linear24", "linear24_auto", "pack24", "sparsify24", "unpack24"]


def sparsify24(x, norm=True):
    """Writes zeros over the two smallest of every four channels.

    Args:
        x: ``[..., K]``, K divisible by 4.
        norm: whether to compute the scale.

    Returns:
        ``kept [..., K]``, of the dtype of x, and ``scale [M]``, float32, M being the product of the
        leading dimensions: ``||x|| / ||kept||`` per token, or ones without ``norm``.
    """
    return torch.ops.rtlynx.sparsify24(x, norm)


def pack24(x):
    """Compresses x to the channels that stay and the positions they had.

    Args:
        x: ``[..., K]``, K divisible by 16.

    Returns:
        ``values [..., K/2]``, of the dtype of x; ``metadata [..., K/16]``, int16 holding the bits
        of unsigned words, four bits ``i0 | i1 << 2`` per group of four channels, the lowest bits
        for the lowest channels; ``scale [M]``, float32, as from ``sparsify24``.
    """
    return torch.ops.rtlynx.pack24(x)


def unpack24(values, metadata):
    """The inverse of ``pack24``.

    Metadata that ``pack24`` does not give raises RuntimeError on the CPU; on a GPU, where checking
    would be waiting, it gives wrong values.

    Args:
        values: ``[..., K/2]``.
        metadata: ``[..., K/16]``, int16.

    Returns:
        ``kept [..., K]``, zeros where a channel was dropped.
    """
    return torch.ops.rtlynx.unpack24(values, metadata)


def linear24(x, weight, bias=None, lora_down=None, lora_up=None, norm=True):
    """A linear layer on the sparsified x, with an optional low-rank term on x itself.

    ``y = s * (x~ @ weight.T + (x @ lora_down.T / s) @ lora_up.T) + bias``. Products are summed in
    fp32; ``x @ lora_down.T / s`` and y are rounded once to the dtype of x. Settings that let torch
    multiply float32 matrices in fewer bits hold here too; autocast changes nothing.

    Args:
        x: ``[..., K]``, K divisible by 4.
        weight: ``[N, K]``.
        bias: ``[N]`` or None.
        lora_down: ``[R, K]``, together with ``lora_up`` or not at all.
        lora_up: ``[N, R]``.
        norm: False takes s = 1.

    Returns:
        ``y [..., N]``, of the dtype of x.
    """
    return torch.ops.rtlynx.linear24(x, weight, bias, lora_down, lora_up, norm)


def linear24_auto(x, weight, bias=None, lora_down=None, lora_up=None, norm=True):
    """``linear24``, or the dense layer where that is faster.

    On a GPU where a dense GEMM is known to be faster (few tokens, small layers), or no sparse
    kernel takes the arguments, this is ``x @ weight.T + bias``: the layer without sparsity, so
    ``norm``, ``lora_down`` and ``lora_up``, which make up for sparsity, are left out. On the CPU it
    is ``linear24``.

    Args and returns: those of ``linear24``.
    """
    return torch.ops.rtlynx.linear24_auto(x, weight, bias, lora_down, lora_up, norm)
