# SPDX-License-Identifier: Apache-2.0
"""A compensation, as src/compensate/compensation_file.h describes its file."""

import json
import os
from dataclasses import dataclass, field

import torch

from ._error import Error

_FORMAT, _VERSION, _PATTERN, _PREFIX = "rtlynx compensation", 4, "2:4", "rtlynx."
_KEYS = ("format", "format_version", "pattern", "base_model", "base_revision", "method", "transform",
         "recipe", "rank", "alpha", "targets")
_LAYER_PARTS, _INPUT_PARTS = ("down", "up", "weight"), ("transform", "scale", "permutation")


@dataclass
class LayerCompensation:
    """``y = s z~ W'^T + (z L_down^T) L_up^T + b`` of one layer."""

    input: str  # its name; layers with one input share a transform
    norm: bool = True
    down: torch.Tensor | None = None  # [r, K]
    up: torch.Tensor | None = None  # [N, r]
    weight: torch.Tensor | None = None  # W' [N, K]; None: W, or W A^-T behind a transform
    e4m3: bool = False  # kept values and weight are rounded to e4m3

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

    def is_identity(self):
        return self.blocks is None and self.scale is None and self.permutation is None

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

    def down_before(self, down):
        """L_down A^T [r, K], which reads the blocks' input as ``down`` reads z; in float64, rounded
        once."""
        count, size, _ = self.blocks.shape
        grouped = down.double().unflatten(1, (count, size)).transpose(0, 1)  # [K / g, r, g]
        exact = torch.bmm(grouped, self.blocks.to(down.device).double().mT)
        return exact.transpose(0, 1).flatten(1).to(down.dtype)


@dataclass
class Compensation:
    """For one set of weights: the layers to make sparse, and what makes up for it."""

    layers: dict  # name -> LayerCompensation
    transforms: dict = field(default_factory=dict)  # input -> InputTransform
    metadata: dict = field(default_factory=dict)

    def save(self, path):
        """Writes the file that read_file reads; all floating-point values as bf16."""
        from safetensors.torch import save_file
        tensors = {}
        for name, layer in self.layers.items():
            tensors |= {f"{_PREFIX}{name}.{part}": getattr(layer, part) for part in _LAYER_PARTS}
        for source, transform in self.transforms.items():
            tensors |= {f"{_PREFIX}{source}.transform": transform.blocks,
                        f"{_PREFIX}{source}.scale": transform.scale,
                        f"{_PREFIX}{source}.permutation": transform.permutation}
        rank = max((0 if layer.down is None else layer.down.shape[0]
                    for layer in self.layers.values()), default=0)
        # The oldest version that can say it: 3 has transforms without weights, 4 has e4m3.
        version = 3 if any(layer.weight is None and layer.input in self.transforms
                           for layer in self.layers.values()) else 1
        if any(layer.e4m3 for layer in self.layers.values()):
            version = 4
        kind = {} if version == 1 else {"kind": "activation 2:4", "method": ""}
        targets = {name: {"norm": layer.norm, "input": layer.input, **kind,
                          **({"values": "e4m3"} if layer.e4m3 else {})}
                   for name, layer in self.layers.items()}
        metadata = {"base_model": "", "base_revision": "", "method": "", "transform": "",
                    "recipe": "", **self.metadata, "format": _FORMAT, "format_version": str(version),
                    "pattern": _PATTERN, "rank": str(rank), "alpha": str(rank),
                    "targets": json.dumps(targets)}
        whole = f"{path}.part"
        save_file({name: (tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor)
                   .cpu().contiguous() for name, tensor in tensors.items() if tensor is not None},
                  whole, metadata)
        os.replace(whole, path)

    def __str__(self):
        method, transform = self.metadata.get("method", "given"), self.metadata.get("transform")
        return method if transform in (None, "", "none") else f"{method}, transform {transform}"


def weights_revision(model):
    """The hash of a model's weights that a compensation names (src/models/revision.h)."""
    state = 0
    for name, parameter in model.named_parameters():
        if ".lora_" not in name:
            values = parameter.detach().to("cpu", torch.bfloat16).contiguous()
            state = torch.ops.rtlynx.add_to_revision(state, name.replace(".base_layer", ""), values)
    return f"{state % 2**64:016x}"


def read(path, model):
    """A file that `rtlynx calibrate` wrote for this model's weights. Raises Error for any other."""
    compensation = read_file(path)
    revision, wanted = weights_revision(model), compensation.metadata["base_revision"]
    if revision != wanted:
        raise Error(path, f"the weights that it was made for, revision {wanted} of "
                          f"{compensation.metadata['base_model']}", f"revision {revision}")
    return compensation


def read_file(path):
    """The same for any weights."""
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, framework="pt") as file:
            return _Reader(str(path), file.metadata() or {},
                           {name: file.get_tensor(name) for name in file.keys()}).read()
    except FileNotFoundError:
        raise Error(path, "a compensation file", "no such file") from None
    except (SafetensorError, OSError) as error:
        raise Error(path, "a whole safetensors file", error) from None


class _Reader:
    """Takes a file apart and knows what was never asked for."""

    def __init__(self, path, metadata, tensors):
        self.path, self.metadata, self.left = path, metadata, dict(tensors)

    def read(self):
        targets = self._check_metadata()
        rank, alpha = self._number("rank"), self._number("alpha")
        layers, transforms = {}, {}
        for name, target in targets.items():
            layers[name] = self._layer(name, target, rank, alpha)
            source = layers[name].input
            if source not in transforms:
                blocks, scale, permutation = self._take(source, _INPUT_PARTS)
                transforms[source] = InputTransform(blocks, scale, permutation)
        if self.left:
            raise Error(self.path, "tensors of its targets", next(iter(self.left)))
        transforms = {source: transform for source, transform in transforms.items()
                      if not transform.is_identity()}
        return Compensation(layers, transforms, dict(self.metadata))

    def _check_metadata(self):
        for key in _KEYS:
            if key not in self.metadata:
                raise Error(self.path, f"metadata with {key}", "none")
        for key in self.metadata:
            if key not in _KEYS:
                raise Error(self.path, f"only metadata of format version {_VERSION} or older", key)
        for key, wanted in (("format", _FORMAT), ("pattern", _PATTERN)):
            if self.metadata[key] != wanted:
                raise Error(self.path, f"{key} {wanted}", self.metadata[key])
        version = self._number("format_version")
        if not 1 <= version <= _VERSION:
            raise Error(self.path, f"format version {_VERSION} or older", version)
        try:
            targets = json.loads(self.metadata["targets"])
        except json.JSONDecodeError as error:
            raise Error(self.path, "targets in JSON", error) from None
        if not isinstance(targets, dict) or not targets:
            raise Error(self.path, "targets: an object of layers", self.metadata["targets"][:60])
        return targets

    def _number(self, key):
        text = self.metadata[key]
        if not text.isdecimal():
            raise Error(self.path, f"a number in {key}", text)
        return int(text)

    def _layer(self, name, target, rank, alpha):
        where = f"{self.path}, target {name}"
        if not isinstance(target, dict) or not isinstance(target.get("input"), str):
            raise Error(where, "an object with an input", target)
        kind = target.get("kind", "activation 2:4")
        if kind != "activation 2:4":
            raise Error(where, "a layer with sparse activations; the plug-in runs no other", kind)
        if not isinstance(target.get("norm"), bool):
            raise Error(where, "norm, true or false", target.get("norm"))
        down, up, weight = self._take(name, _LAYER_PARTS)
        if up is not None and rank and alpha != rank:
            up = up * (alpha / rank)
        if (down is None) != (up is None) or (down is not None and down.shape[0] != rank):
            raise Error(where, f"down and up of rank {rank}, or neither", "another")
        values = target.get("values")
        if values not in (None, "e4m3"):
            raise Error(where, "values e4m3", values)
        return LayerCompensation(target["input"], target["norm"], down, up, weight,
                                 values == "e4m3")

    def _take(self, owner, parts):
        return [self._tensor(f"{_PREFIX}{owner}.{part}", part == "permutation") for part in parts]

    def _tensor(self, key, is_index):
        tensor = self.left.pop(key, None)
        wanted = torch.int64 if is_index else torch.bfloat16
        if tensor is not None and tensor.dtype != wanted:
            raise Error(f"{self.path}, {key}", wanted, tensor.dtype)
        if tensor is not None and not is_index and not tensor.isfinite().all():
            raise Error(f"{self.path}, {key}", "finite values", "infinite or NaN ones")
        return tensor
