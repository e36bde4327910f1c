# SPDX-License-Identifier: Apache-2.0
"""The rotation of Qwen-Image's q and k, so that torch.compile fuses it.

diffusers multiplies complex numbers. Inductor makes no code for these: q and k go to memory and back
three times, in float32. In a sparsified model the norms of q and k mark what they return, and
diffusers' function, extended here, rotates what is marked in real numbers while it is compiled.
Other models, and calls without torch.compile, run as before.
"""

import sys

import torch

from . import _fused
from ._linear import LynxLinear

_MODULE = "diffusers.models.transformers.transformer_qwenimage"
_NORMS = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")
_MARK = "_rtlynx_to_rotate"


def rotated(x, rotation):
    """x [B, S, heads, D], its adjacent channels rotated by complex numbers [S, D / 2]."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = torch.view_as_real(rotation).unsqueeze(1).unbind(-1)  # [S, 1, D / 2]
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1) \
        .flatten(-2).type_as(x)


def _norm_forward(self, hidden_states):
    result = self.lynx_base.forward(self, hidden_states)
    if torch.compiler.is_compiling():
        setattr(result, _MARK, True)
    return result


def fuse_rotations(model):
    """Marks the norms of sparse blocks; ``_fused.unfuse`` undoes it."""
    diffusers = sys.modules.get(_MODULE)
    if diffusers is None:
        return
    for block in model.modules():
        if isinstance(block, diffusers.QwenImageTransformerBlock) and any(
                isinstance(module, LynxLinear) for module in block.modules()):
            _extend(diffusers)
            for norm in filter(None, (getattr(block.attn, name, None) for name in _NORMS)):
                norm.__class__ = _fused.fused_class(type(norm), _norm_forward)


def _extend(diffusers):
    original = diffusers.apply_rotary_emb_qwen
    if getattr(original, "of_rtlynx", False):
        return

    def apply_rotary_emb_qwen(x, freqs_cis, use_real=True, use_real_unbind_dim=-1):
        if not use_real and getattr(x, _MARK, False):
            return rotated(x, freqs_cis)
        return original(x, freqs_cis, use_real, use_real_unbind_dim)

    apply_rotary_emb_qwen.of_rtlynx = True
    diffusers.apply_rotary_emb_qwen = apply_rotary_emb_qwen
