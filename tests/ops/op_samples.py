# SPDX-License-Identifier: Apache-2.0
"""Arguments of the operators, for the tests from Python."""

import torch

import rtlynx


def random(*shape, dtype=torch.float32, device="cpu", seed=3):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def places(narrow_on_gpu=False):
    """A wide and a narrow type on every device."""
    types = {"cpu": (torch.float32, torch.bfloat16)}
    if torch.cuda.is_available():
        types["cuda"] = (torch.bfloat16,) if narrow_on_gpu else types["cpu"]
    return [{"dtype": dtype, "device": device} for device in types for dtype in types[device]]


def layer(k=32, n=24, rank=16, **place):
    """weight, bias, lora_down, lora_up."""
    return [std * random(*shape, seed=7, **place)
            for shape, std in (((n, k), 1), ((n,), 1), ((rank, k), 0.1), ((n, rank), 0.1))]


def pack_samples(**place):
    """Arguments of pack, by name, for every producer."""
    x = random(2, 5, 64, **place)
    moments = random(2, 5, 2, device=place["device"]).abs()
    modulation = {"weight": random(64, **place), "scale": random(2, 64, **place),
                  "shift": random(2, 64, **place)}
    return [{"x": x},
            {"x": x.transpose(0, 1), "norm": False},
            {"x": random(3, 128, **place), "tail": random(3, 16, **place)},
            {"x": x, "producer": "gelu", "down": random(32, 64, **place)},
            {"x": x, "producer": "swiglu", "up": x + 1},
            {"x": x, "producer": "layer_norm", **modulation},
            {"x": x, "producer": "rms_norm", "moments": moments, **modulation,
             "transform": random(4, 16, 16, **place), "down": random(16, 64, **place)},
            {"x": x[:, :0], "down": random(16, 64, **place)}]


def product_arguments(packed, weights, ups=(), low_starts=(), biases=(), activations=(),
                      gates=(), residuals=()):
    return (*packed, list(weights), list(ups), list(low_starts), list(biases), list(activations),
            list(gates), list(residuals))


def product_samples(**place):
    """Positional arguments of product, for one weight and four, with and without each part."""
    packed = rtlynx.pack(random(2, 5, 32, **place), down=random(64, 32, **place))
    outputs = (24, 8, 40, 16)
    weights = [random(n, 32, seed=n, **place) for n in outputs]
    none = weights[0].new_empty(0)
    return [product_arguments(packed, weights[:1]),
            product_arguments(packed, weights, ups=[random(n, 16, **place) for n in outputs],
                              biases=[random(24, **place), none, random(40, **place).float(), none],
                              activations=[0, 1, 0, 0],
                              gates=[random(2, 24, **place), none, none, random(1, 16, **place)],
                              residuals=[none, random(2, 5, 8, **place), none, none]),
            product_arguments(packed, weights[:2],
                              ups=[random(n, 16, **place).t().contiguous().t()
                                   for n in outputs[:2]], low_starts=[48, 48])]
