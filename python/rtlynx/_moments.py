# SPDX-License-Identifier: Apache-2.0
"""Sums over tokens of what layers read, and what the closed forms make of them."""

import contextlib
import warnings

import torch

from . import _compensation
from ._error import Error

DAMPING = 0.01  # kDamping of src/compensate/closed_form.h
BLOCK_SIZES = (128, 64, 16)

# Method: the sums that it needs, and whether S = s x~ (else x~), as in docs/compensation.md.
METHODS = {"low-rank": (("xx", "xs"), True), "refit": (("xs", "ss"), False),
           "joint": (("xx", "xs", "ss"), False)}


def block_for(channels, most):
    """The largest block of at most ``most`` channels that divides them, or None."""
    return next((size for size in BLOCK_SIZES if size <= most and channels % size == 0), None)


class Sums:
    """X^T X, X^T S and S^T S, those of them that are named, in float64. With a transform X is z."""

    def __init__(self, group, names, norm, samples, transform=None):
        self.group, self.norm, self.samples, self.tokens = group, norm, samples, 0
        weight = group.modules[0].weight
        self.transform = None if transform is None else transform.blocks.to(weight.device).float()
        channels = group.modules[0].in_features
        self.sums = {name: torch.zeros(channels, channels, dtype=torch.float64,
                                       device=weight.device) for name in names}
        self.generator = torch.Generator().manual_seed(0)

    def see(self, module, arguments):
        """A hook before the first layer of the group."""
        with torch.inference_mode(False), torch.no_grad():
            rows = arguments[0].detach().flatten(0, -2)
            if self.samples is not None and len(rows) > self.samples:
                chosen = torch.randperm(len(rows), generator=self.generator)[:self.samples]
                rows = rows[chosen.to(rows.device)]
            if self.transform is not None:
                rows = self._transformed(rows)
            operands = {"x": rows.float()}
            if len(self.sums) > 1:
                kept, scale = torch.ops.rtlynx.sparsify24(rows, self.norm)
                operands["s"] = kept.float() * scale.unsqueeze(1)
            for (left, right), total in self.sums.items():
                total += operands[left].T @ operands[right]
            self.tokens += len(rows)

    def _transformed(self, rows):
        # As the pack does: summed in float32, rounded once.
        count, size, _ = self.transform.shape
        blocks = rows.float().unflatten(1, (count, size)).transpose(0, 1)  # [K / g, n, g]
        return torch.bmm(blocks, self.transform).transpose(0, 1).flatten(1).to(rows.dtype)

    def check(self, least):
        first = self.group.layers[0]
        channels = self.group.modules[0].in_features
        if self.tokens < least:
            raise Error("calibrate", f"at least {least} tokens, the rank, read by {first}",
                        f"{self.tokens}")
        if not all(total.isfinite().all() for total in self.sums.values()):
            raise Error("calibrate", f"finite inputs of {first}", "infinite or NaN ones")
        if self.tokens < channels:
            warnings.warn(f"rtlynx.calibrate: {first} read {self.tokens} tokens of {channels} "
                          "channels: fewer tokens than channels fit themselves. Draw more.",
                          stacklevel=4)


@contextlib.contextmanager
def _full_precision():
    # Moments in TF32 are not positive definite.
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def collect(sums, run, least):
    """Fills them in one pass of ``run``, and checks them."""
    hooks = [each.group.modules[0].register_forward_pre_hook(each.see) for each in sums]
    try:
        with _full_precision():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    for each in sums:
        each.check(least)


def solve_transforms(sums, most):
    """``<input>.transform`` of each, bf16, by src/ops/block_transform.cpp."""
    found = {}
    for each in sums:
        channels = each.group.modules[0].in_features
        found[f"{each.group.layers[0]}.transform"] = torch.ops.rtlynx.block_transform(
            each.sums["xx"] / each.tokens,
            [linear.weight.detach() for linear in each.group.modules],
            block_for(channels, most)).cpu()
    return found


def solve_layers(sums, method, rank, transforms):
    """``<layer>.down``, ``.up`` and ``.weight``, bf16, by src/ops/solver.cpp."""
    found = {}
    for each in sums:
        transform = transforms.get(each.group.layers[0])
        for name, linear in zip(each.group.layers, each.group.modules):
            own = linear.weight.detach().double()
            if transform is not None:
                own = transform.weight_behind(own)
            for part, tensor in _solve(method, each.sums, own, rank).items():
                found[f"{name}.{part}"] = tensor.to("cpu", torch.bfloat16).contiguous()
    return found


def _solve(method, sums, weight, rank):
    if method == "low-rank":
        down, up = torch.ops.rtlynx.low_rank_on_input(sums["xx"], sums["xs"], weight, rank, DAMPING)
        return {"down": down, "up": up}
    if method == "refit":
        return {"weight": torch.ops.rtlynx.refit(sums["xs"], sums["ss"], weight, DAMPING)}
    refitted, down, up = torch.ops.rtlynx.refit_with_low_rank(
        sums["xx"], sums["xs"], sums["ss"], weight, rank, DAMPING)
    return {"weight": refitted, "down": down, "up": up}


def layer_of(name, source, method, tensors):
    """The LayerCompensation of what solve_layers found."""
    _, norm = METHODS[method]
    parts = {part: tensors.get(f"{name}.{part}") for part in ("down", "up", "weight")}
    return _compensation.LayerCompensation(source, norm, **parts)
