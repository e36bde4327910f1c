# SPDX-License-Identifier: Apache-2.0
"""A compensation, as src/compensate/compensation_file.h describes its file."""

from dataclasses import dataclass, field

import torch

from ._error import Error


@dataclass
class LayerCompensation:
    """``y = s z~ W'^T + (z L_down^T) L_up^T + b`` of one layer."""

    input: str  # its name; layers with one input share a transform
    norm: bool = True
    down: torch.Tensor | None = None  # [r, K]
    up: torch.Tensor | None = None  # [N, r]
    weight: torch.Tensor | None = None  # W' [N, K]; None: W, or W A^-T behind a transform

    def weight_for(self, weight, transform):
        """W' for a layer whose own weight is ``weight``; None if that stays."""
        if self.weight is not None:
            return self.weight.to(weight.device, weight.dtype)
        return None if transform is None else transform.weight_behind(weight)

    def check(self, name, linear, transform):
        """Raises unless the shapes are those of the Linear."""
        outputs, channels = linear.out_features, linear.in_features
        if (self.down is None) != (self.up is None):
            raise Error(name, "down and up, or neither", "one of them")
        wanted = {"weight": (self.weight, (outputs, channels))}
        if self.down is not None:
            rank = self.down.shape[0]
            wanted |= {"down": (self.down, (rank, channels)), "up": (self.up, (outputs, rank))}
        for part, (tensor, shape) in wanted.items():
            if tensor is not None and tuple(tensor.shape) != shape:
                raise Error(name, f"{part} {list(shape)}", list(tensor.shape))
        if transform is not None:
            transform.check(name, channels)


@dataclass
class InputTransform:
    """z of x, in which the 2 of every 4 channels are chosen."""

    blocks: torch.Tensor | None = None  # [K / g, g, g]: z = x A
    scale: torch.Tensor | None = None  # [K]: z_j = c_j x_j
    permutation: torch.Tensor | None = None  # [K] int64: z_j = c_p(j) x_p(j)

    def check(self, name, channels):
        blocks = self.blocks
        if blocks is not None and (blocks.dim() != 3 or blocks.shape[1] not in (16, 64, 128)
                                   or blocks.shape[1] != blocks.shape[2]
                                   or blocks.shape[0] * blocks.shape[1] != channels):
            raise Error(name, f"a transform [{channels} / g, g, g], g 16, 64 or 128",
                        list(blocks.shape))
        for part in (self.scale, self.permutation):
            if part is not None and tuple(part.shape) != (channels,):
                raise Error(name, f"a scale or permutation [{channels}]", list(part.shape))

    def like(self, weight):
        """On the device and of the type of a weight."""
        place = lambda tensor: None if tensor is None else tensor.to(weight.device, weight.dtype)
        permutation = self.permutation
        return InputTransform(place(self.blocks), place(self.scale),
                              None if permutation is None else permutation.to(weight.device))

    def weight_behind(self, weight):
        """W A^-T [N, K], which reads z as ``weight`` reads x; in float64, rounded once."""
        exact = weight.double()
        if self.blocks is not None:
            count, size, _ = self.blocks.shape
            inverse = torch.linalg.inv(self.blocks.to(weight.device).double())
            grouped = exact.unflatten(1, (count, size)).transpose(0, 1)  # [K / g, N, g]
            exact = torch.bmm(grouped, inverse.mT).transpose(0, 1).flatten(1)
        if self.scale is not None:
            exact = exact / self.scale.to(weight.device).double()
        if self.permutation is not None:
            exact = exact.index_select(1, self.permutation.to(weight.device))
        return exact.to(weight.dtype)


@dataclass
class Compensation:
    """For one set of weights: the layers to make sparse, and what makes up for it."""

    layers: dict  # name -> LayerCompensation
    transforms: dict = field(default_factory=dict)  # input -> InputTransform
    metadata: dict = field(default_factory=dict)

    def __str__(self):
        method, transform = self.metadata.get("method", "given"), self.metadata.get("transform")
        return method if transform in (None, "", "none") else f"{method}, transform {transform}"
