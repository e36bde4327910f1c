# SPDX-License-Identifier: Apache-2.0
"""The method in plain torch, and counters of the operators."""

import copy

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class ReferenceLinear(nn.Module):
    """``y = s z~ W'^T + (z L_down^T) L_up^T + b``, ``z = x A``."""

    def __init__(self, linear, layer=None, transform=None):
        super().__init__()
        self.linear, self.layer, self.transform = linear, layer, transform

    def forward(self, x):
        z = x
        if self.transform is not None:
            z = z @ torch.block_diag(*self.transform.blocks.to(x))
        order = z.unflatten(-1, (-1, 4)).abs().sort(dim=-1, descending=True, stable=True)[1]
        keep = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order[..., :2], True)
        kept = torch.where(keep.flatten(-2), z, 0)
        scale = z.norm(dim=-1, keepdim=True) / kept.norm(dim=-1, keepdim=True)
        weight = self.linear.weight
        if self.layer is not None and self.layer.weight is not None:
            weight = self.layer.weight.to(x)
        elif self.transform is not None:
            weight = self.transform.weight_behind(weight)
        y = torch.nan_to_num(scale, 1.0) * kept @ weight.T
        if self.layer is not None and self.layer.down is not None:
            y = y + z @ self.layer.down.to(x).T @ self.layer.up.to(x).T
        return y if self.linear.bias is None else y + self.linear.bias


def reference_model(model, layers, compensation=None):
    """A copy of a dense model whose `layers` are ReferenceLinears."""
    model = copy.deepcopy(model)
    for name in layers:
        layer = compensation.layers[name] if compensation else None
        transform = compensation.transforms.get(layer.input) if layer else None
        parent, child = name.rsplit(".", 1)
        setattr(model.get_submodule(parent), child,
                ReferenceLinear(model.get_submodule(name), layer, transform))
    return model


class Counts(TorchDispatchMode):
    """Packs, products, and weights multiplied, by all that runs inside."""

    def __init__(self):
        super().__init__()
        self.packs = self.products = self.weights = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() == "rtlynx::pack":
            self.packs += 1
        elif func.name() == "rtlynx::product":
            self.products += 1
            self.weights += len(args[3])
        return func(*args, **(kwargs or {}))


def relative_error(value, exact):
    return ((value.double() - exact.double()).norm() / exact.double().norm()).item()
