# SPDX-License-Identifier: Apache-2.0
"""Online 2:4 activation sparsity for Diffusion Transformers: the operators of rtlynx.

Of every four consecutive channels of a token the two of largest magnitude stay (the lower channel
wins a tie, NaN beats everything), and the token is rescaled by ``s = ||z|| / ||z~||``, z~ being
what is left of it.

``pack`` prepares an input once; ``product`` multiplies it with one to four weights. ``linear24`` is
the two together. ``residual_norm``, ``head_norm`` and ``swiglu`` are what a transformer block does
in between.

All tensors of a call share one device and, except moments, scales and float32 biases, one dtype:
float32, float16 or bfloat16. Any strides are taken; results are contiguous, share no memory with
the arguments, and have no gradient: asking for one raises RuntimeError. Invalid arguments raise
RuntimeError, saying what was required and what arrived.

On a GPU of compute capability 8.0 or later float16 and bfloat16 run on the Sparse Tensor Cores: K
divisible by 16, N by 8, ranks by 16 up to 128 and up to 256 together; arguments whose rows do not
begin on 16 bytes are copied. float32, and the CPU, write the zeros out and multiply them: right,
and not faster than a dense layer.
"""

import importlib.util
from typing import NamedTuple

import torch

from . import _ops  # noqa: F401  (loads and registers the operators)
from ._calibrate import calibrate
from ._compensation import (Compensation, InputTransform, LayerCompensation, read_file,
                            weights_revision)
from ._doctor import doctor
from ._error import Error
from ._report import Report
from ._sparsify import groups_of, report, restore, sparsify

__all__ = ["Compensation", "Error", "InputTransform", "LayerCompensation", "Packed", "PackedWeight",
           "Report", "calibrate", "doctor", "groups_of", "head_norm", "linear24", "pack",
           "pack_weight", "product", "read_file", "report", "residual_norm", "restore", "sparsify",
           "sparsify24", "swiglu", "weight_product", "weights_revision"]


class Packed(NamedTuple):
    """An input, packed: what ``product`` reads.

    ``operand`` is opaque; ``scale [...]`` is s in float32; ``low [..., R]`` is
    ``producer(x) down^T / s``.
    """

    operand: torch.Tensor
    scale: torch.Tensor
    low: torch.Tensor


def _require_tensors(op, **tensors):
    # torch before 2.13 does not survive None in place of an operator's tensor.
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise RuntimeError(f"{op}: required {name}, a tensor, got {type(tensor).__name__}")


def sparsify24(x, norm=True):
    """Writes zeros over the two smallest of every four channels.

    Args:
        x: ``[..., K]``, K divisible by 4.
        norm: whether to compute the scale.

    Returns:
        ``kept [..., K]``, of the dtype of x, and ``scale [...]``, float32: ``||x|| / ||kept||`` per
        token, or ones without ``norm``.
    """
    _require_tensors("sparsify24", x=x)
    return torch.ops.rtlynx.sparsify24(x, norm)


def pack(x, *, tail=None, producer="none", up=None, moments=None, weight=None, scale=None,
         shift=None, eps=1e-6, transform=None, down=None, norm=True, e4m3_unit=None,
         transform_gain=1.0, limit=None, tail_limit=None):
    """Packs an input of Linears: ``z = transform(producer(x))``, its kept half, s, and
    ``producer(x) down^T``.

    Everything in float32, z rounded to the dtype of x once behind the producer and once behind the
    transform.

    Args:
        x: ``[..., K]``, K divisible by 16.
        tail: ``[..., K2]``: the last channels of the input, if they lie elsewhere; then x has the
            first K - K2, a multiple of 128, and there is no producer.
        producer: ``"none"``; ``"gelu"`` (the tanh formula); ``"swiglu"``: ``silu(x) * up``;
            ``"layer_norm"`` or ``"rms_norm"``: ``n * weight * (1 + scale) + shift``.
        up: ``[..., K]``, for ``"swiglu"``.
        moments: ``[..., 2]``, float32: mean and 1 / deviation of each token, for the norms; computed
            from x with ``eps`` if not given.
        weight: ``[K]``, for the norms.
        scale, shift: ``[G, K]``, for the norms: one row for each of G images of equally many tokens.
        transform: ``[K / g, g, g]``: ``z' = z A`` with blocks of g = 16, 64 or 128 channels, entry
            ``[b, o, i]`` the weight of input i in output o.
        down: ``[R, K]``: the down projections of all weights, one below the other. They read the
            input before the transform: of one that is to read z, give ``down A^T``.
        norm: False takes s = 1.
        e4m3_unit: the kept values leave as e4m3, for weights ``(W / e4m3_unit).to(float8_e4m3fn)`` and
            ups ``up / e4m3_unit``; a GPU of compute capability 9.0, or the CPU.
        transform_gain: with it, the largest Euclidean norm of a row of ``transform``.
        limit, tail_limit: with it, ``[...]`` float32: upper bounds of the magnitudes of x (of swiglu: of
            x * up) and of the tail, which otherwise are read once more. Not for the norms.

    Returns:
        ``Packed``.
    """
    _require_tensors("pack", x=x)
    return Packed(*torch.ops.rtlynx.pack(x, tail, producer, up, moments, weight, scale, shift, eps,
                                         transform, down, norm, e4m3_unit, transform_gain,
                                         limit, tail_limit))


def product(packed, weights, *, ups=None, low_starts=None, biases=None, activations=None,
            gates=None, residuals=None):
    """One to four Linears on a packed input, in one pass over it.

    For each weight ``residual + gate * act(s * (z~ @ weight.T + low @ up.T) + bias)``, summed in
    float32 and rounded once.

    Args:
        packed: what ``pack`` gave.
        weights: ``[N_i, K]`` each, of the dtype of x, or float8_e4m3fn where ``pack`` had a unit.
        ups: ``[N_i, r]`` each, or None. All of one rank r.
        low_starts: the first of the r columns of ``packed.low`` that each reads; by default one
            behind the other. All 0: one low rank for the whole group.
        biases: ``[N_i]`` each, of the dtype of the weights or float32, or None.
        activations: ``"none"`` or ``"gelu"`` (the tanh formula) each.
        gates: ``[G, N_i]`` each, or None: one row for each of G images.
        residuals: ``[..., N_i]`` each, or None.

    A list may hold None for a weight that has no such part.

    Returns:
        A list of ``[..., N_i]``.
    """
    return torch.ops.rtlynx.product(
        packed.operand, packed.scale, packed.low, list(weights),
        *_parts("product", packed.low, ups, low_starts, biases, activations, gates, residuals))


def _parts(op, like, ups, low_starts, biases, activations, gates, residuals):
    """What goes with each weight, as the operators take it: an empty tensor for None."""
    def entries(tensors):
        if tensors is None or all(tensor is None for tensor in tensors):
            return []
        return [like.new_empty(0) if tensor is None else tensor for tensor in tensors]

    codes = {"none": 0, None: 0, "gelu": 1}
    for name in activations or ():
        if name not in codes:
            raise RuntimeError(f"{op}: required an activation none or gelu, got {name}")
    return (entries(ups), list(low_starts or ()), entries(biases),
            [codes[name] for name in activations or ()], entries(gates), entries(residuals))


class PackedWeight(NamedTuple):
    """A 2:4 weight, packed: what ``weight_product`` reads. ``operand`` is opaque."""

    operand: torch.Tensor
    outputs: int


def pack_weight(weight):
    """Packs a weight ``[N, K]``, K divisible by 16, of which two of every four channels are zero.

    Of others the two largest stay. For the Sparse Tensor Cores on a GPU of compute capability 9.0;
    elsewhere it stays as it is.
    """
    return PackedWeight(torch.ops.rtlynx.pack_weight(weight), weight.shape[0])


def weight_product(x, weights, *, low=None, ups=None, low_starts=None, biases=None,
                   activations=None, gates=None, residuals=None):
    """One to four Linears with 2:4 weights on a dense input, in one pass over it.

    For each weight ``residual + gate * act(x @ weight.T + low @ up.T + bias)``, summed in float32
    and rounded once.

    Args:
        x: ``[..., K]``.
        weights: what ``pack_weight`` gave, for each.
        low: ``[..., R]``, the product of x with the downs of all, or None.
        ups, low_starts, biases, activations, gates, residuals: as of ``product``.

    Returns:
        A list of ``[..., N_i]``.
    """
    low = x.new_empty((*x.shape[:-1], 0)) if low is None else low
    return torch.ops.rtlynx.weight_product(
        x, low, [weight.operand for weight in weights], [weight.outputs for weight in weights],
        *_parts("weight_product", low, ups, low_starts, biases, activations, gates, residuals))


def linear24(x, weight, bias=None, lora_down=None, lora_up=None, norm=True):
    """A Linear on the sparsified x, with an optional low-rank term on x itself.

    ``y = s * (x~ @ weight.T + (x @ lora_down.T / s) @ lora_up.T) + bias``: ``pack`` and ``product``
    of one weight.

    Args:
        x: ``[..., K]``, K divisible by 16.
        weight: ``[N, K]``.
        bias: ``[N]`` or None.
        lora_down: ``[R, K]``, together with ``lora_up`` or not at all.
        lora_up: ``[N, R]``.
        norm: False takes s = 1.

    Returns:
        ``y [..., N]``, of the dtype of x.
    """
    _require_tensors("linear24", x=x, weight=weight)
    return torch.ops.rtlynx.linear24(x, weight, bias, lora_down, lora_up, norm)


def residual_norm(x, y=None, *, gate=None, tanh_gate=False, post_weight=None, post_eps=1e-6,
                  norm="layer", eps=1e-6, weight=None, scale=None, shift=None, want_normed=False):
    """A residual stream on its way from one Linear to the next: ``h = x + gate * y``.

    Args:
        x: ``[..., N]``.
        y: ``[..., N]`` or None: h = x.
        gate: ``[G, N]`` or None, a row for each of G images; its tanh with ``tanh_gate``.
        post_weight: ``[N]`` or None: y is RMS-normed (``post_eps``) and multiplied by it first.
        norm: ``"layer"`` or ``"rms"``, of h, with ``eps``.
        weight: ``[N]`` or None.
        scale, shift: ``[G, N]`` or None.
        want_normed: whether to write the norm of h, ``n * weight * (1 + scale) + shift``.

    Returns:
        ``h [..., N]``; ``moments [..., 2]``, float32, mean and 1 / deviation of h, which ``pack``
        takes; ``normed [..., N]``, or ``[..., 0]``.
    """
    _require_tensors("residual_norm", x=x)
    return torch.ops.rtlynx.residual_norm(x, y, gate, tanh_gate, post_weight, post_eps, norm, eps,
                                          weight, scale, shift, want_normed)


def head_norm(q, k, v=(), *, q_weights=(), k_weights=(), rotation=None, head_dim, eps=1e-6):
    """q, k and v of one token stream or two for joint attention.

    q and k are RMS-normed over each head, multiplied by their weight, and their adjacent channels
    rotated; v is joined as it is.

    Args:
        q, k, v: lists of ``[B, S_i, heads * head_dim]``; v may be empty.
        q_weights, k_weights: lists of ``[head_dim]``, or empty.
        rotation: ``[S, head_dim / 2, 2]``, float32, cosine and sine for the S tokens of all streams.

    Returns:
        q, k and v, ``[B, S, heads * head_dim]``; v ``[B, S, 0]`` if there were none.
    """
    return torch.ops.rtlynx.head_norm(list(q), list(k), list(v), list(q_weights), list(k_weights),
                                      rotation, head_dim, eps)


def swiglu(gate, up):
    """``silu(gate) * up``, both ``[..., N]``, computed in float32 and rounded once."""
    _require_tensors("swiglu", gate=gate, up=up)
    return torch.ops.rtlynx.swiglu(gate, up)


def _register():
    """Makes diffusers, if it is there, know RTLynxConfig; returns why not."""
    if importlib.util.find_spec("diffusers") is None:
        return "diffusers is not installed"
    try:
        from . import _diffusers  # noqa: F401
    except (ImportError, RuntimeError) as error:  # a diffusers that does not load
        return f"diffusers: {error}"
    return None


_without_diffusers = _register()


def __getattr__(name):
    if name == "RTLynxConfig" and _without_diffusers is None:
        return _diffusers.RTLynxConfig
    reason = f": {_without_diffusers}" if name == "RTLynxConfig" else ""
    raise AttributeError(f"module 'rtlynx' has no attribute {name!r}{reason}")
