# SPDX-License-Identifier: Apache-2.0
"""Applies a compensation file to a model's Linears, with the operators alone.

    PYTHONPATH=python RTLYNX_OPS_LIBRARY=build/cpu/src/ops/librtlynx_ops.so \
        python examples/python/compensation.py FILE models/lynx-mini/transformer

FILE is what `rtlynx calibrate` writes (src/compensate/compensation_file.h). It is made for one set
of weights; the command line checks that, this example does not. Prints how far each layer is from
the dense one on random inputs.
"""

import json
import pathlib
import struct
import sys

import torch

import rtlynx

TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "I64": torch.int64}


def read_safetensors(path):
    """The metadata and the tensors of a file."""
    data = bytearray(pathlib.Path(path).read_bytes())
    size, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        body = data[8 + size + begin:8 + size + end]
        tensors[name] = torch.frombuffer(body, dtype=TYPES[entry["dtype"]]).view(entry["shape"])
    return metadata, tensors


class SparseLinear:
    """y = s z~ W'^T + (z L_down^T) L_up^T + b, z the transformed input, z~ its kept half."""

    def __init__(self, weight, bias, norm, layer, transform):
        """`layer`: weight, down and up; `transform`: transform, scale and permutation; as far as
        the file has them. A permutation or scale becomes a part of the input."""
        like = {"dtype": weight.dtype, "device": weight.device}
        self.weight = layer.get("weight", weight).to(**like)
        self.bias, self.norm = bias, norm
        self.down, self.up = (layer[key].to(**like) if key in layer else None
                              for key in ("down", "up"))
        blocks = transform.get("transform")
        # The file has z = x A; the operator wants the inputs of each output together.
        self.blocks = None if blocks is None else blocks.to(**like).mT.contiguous()
        self.scale, self.permutation = transform.get("scale"), transform.get("permutation")

    def __call__(self, x):
        if self.scale is not None:
            x = x * self.scale.to(x)
        if self.permutation is not None:
            x = x[..., self.permutation.to(x.device)]
        packed = rtlynx.pack(x, transform=self.blocks, down=self.down, norm=self.norm)
        ups = None if self.up is None else [self.up]
        return rtlynx.product(packed, [self.weight], ups=ups, biases=[self.bias])[0]


def sparse_linears(path, state):
    """The layers that the file makes sparse: name -> SparseLinear; `state` has the weights."""
    metadata, tensors = read_safetensors(path)
    if metadata.get("format") != "rtlynx compensation":
        raise ValueError(f"{path}: required a compensation file, got {metadata.get('format')}")
    rank = int(metadata["rank"])

    def parts(owner, slots):
        return {slot: tensors[key] for slot in slots
                if (key := f"rtlynx.{owner}.{slot}") in tensors}

    linears = {}
    for name, target in json.loads(metadata["targets"]).items():
        if target.get("kind", "activation 2:4") != "activation 2:4":
            continue  # a mixed choice: another kind of layer
        layer = parts(name, ("weight", "down", "up"))
        if "up" in layer:
            layer["up"] = layer["up"] * (int(metadata["alpha"]) / rank)
        transform = parts(target["input"], ("transform", "scale", "permutation"))
        if transform and "weight" not in layer:
            raise ValueError(f"{path}: required a weight of {name}, which reads a transformed input")
        linears[name] = SparseLinear(state[f"{name}.weight"], state.get(f"{name}.bias"),
                                     target["norm"], layer, transform)
    return linears


def main(path, model):
    state = {}
    for shard in sorted(pathlib.Path(model).glob("*.safetensors")):
        state.update(read_safetensors(shard)[1])
    torch.manual_seed(0)
    with torch.inference_mode():
        for name, sparse in sparse_linears(path, state).items():
            weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
            x = torch.randn(64, weight.shape[1]).to(weight)
            exact = torch.nn.functional.linear(x, weight, bias)
            print(f"{name}: error {((sparse(x) - exact).norm() / exact.norm()).item():.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
