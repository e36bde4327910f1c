#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Attention of the three families by every backend at hand, in turns on one GPU.

    python bench/attention.py --json attention.json

Batch 1, bf16, no mask, heads side by side in a token's row, as the fused path has them. torch's own
backends of scaled_dot_product_attention; FlashAttention 3 (`flash_attn_interface`) and SageAttention
(`sageattention`, which quantises: not exact) if they are installed. Before it is timed each is compared
with fp32: an exact one may be twice as far as rounding the result takes it. A backend that cannot run a
shape is listed with its reason. Needs torch with CUDA; `--tiny`
runs small shapes on the CPU, to try the script.
"""

import argparse
import importlib
import json
import statistics
import sys
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from result_file import write_result

CALLS = 10  # of a round


@dataclass
class Shape:
    name: str
    heads: int
    tokens: int
    channels: int = 128  # of a head

    def flops(self):
        return 4 * self.heads * self.tokens**2 * self.channels


SHAPES = [Shape("FLUX.1-dev 1024 x 1024", 24, 4096 + 512),
          Shape("Qwen-Image 1328 x 1328", 24, 6889 + 64),
          Shape("Z-Image 1024 x 1024", 30, 4096 + 128)]
TINY = [Shape("tiny", 2, 64 + 5, 64)]


def with_backend(backend):
    def attend(q, k, v):
        with sdpa_kernel(backend):
            return of_torch(q, k, v)
    return attend


def of_torch(q, k, v):
    """[B, S, heads, channels] -> the same; the backend that torch chooses."""
    rows = scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return rows.transpose(1, 2)


def flash_attention_3():
    attend = importlib.import_module("flash_attn_interface").flash_attn_func

    def call(q, k, v):
        result = attend(q, k, v)
        return result[0] if isinstance(result, tuple) else result
    return call


def sage_attention():
    attend = importlib.import_module("sageattention").sageattn
    return lambda q, k, v: attend(q, k, v, tensor_layout="NHD")


EXACT = {"torch's choice": lambda: of_torch,
         "cuDNN": lambda: with_backend(SDPBackend.CUDNN_ATTENTION),
         "FlashAttention 2": lambda: with_backend(SDPBackend.FLASH_ATTENTION),
         "memory-efficient": lambda: with_backend(SDPBackend.EFFICIENT_ATTENTION),
         "FlashAttention 3": flash_attention_3}
QUANTISED = {"SageAttention": sage_attention}


def exact_attention(q, k, v):
    """In fp32, head by head: all scores at once would take gigabytes."""
    heads = []
    for head in range(q.shape[2]):
        one_q, one_k, one_v = (x[:, :, head].float() for x in (q, k, v))
        scores = one_q @ one_k.transpose(1, 2) * q.shape[3]**-0.5
        heads.append(torch.softmax(scores, -1) @ one_v)
    return torch.stack(heads, 2)


def inputs_of(shape, device):
    """Normed heads and values of order one."""
    random = torch.Generator(device).manual_seed(1)
    return [torch.randn(1, shape.tokens, shape.heads, shape.channels, device=device,
                        generator=random).to(torch.bfloat16) for _ in "qkv"]


class Contender:
    def __init__(self, name, make, inputs, exact):
        self.name, self.inputs, self.rounds = name, inputs, []
        self.missing = None
        try:
            self.attend = make()
            difference = self.attend(*inputs).float() - exact
        except (ImportError, RuntimeError) as error:
            self.missing = str(error).strip().split("\n")[0]
            return
        self.largest_error = difference.abs().max().item()
        self.relative_error = (difference.norm() / exact.norm()).item()

    def time_round(self):
        self.attend(*self.inputs)
        begin, end = torch.cuda.Event(True), torch.cuda.Event(True)
        begin.record()
        for _ in range(CALLS):
            self.attend(*self.inputs)
        end.record()
        torch.cuda.synchronize()
        self.rounds.append(begin.elapsed_time(end) / CALLS)

    def describe(self, shape):
        row = {"name": self.name, "exact": self.name in EXACT}
        if self.missing:
            return {**row, "missing": self.missing}
        row.update(largest_error=self.largest_error, relative_error=self.relative_error)
        if self.rounds:
            ms = statistics.median(self.rounds)
            row.update(ms=ms, ms_rounds=self.rounds, tflops=shape.flops() / ms * 1e-9)
        return row


@torch.no_grad()
def measure(shape, device, rounds):
    inputs = inputs_of(shape, device)
    exact = exact_attention(*inputs)
    contenders = [Contender(name, make, inputs, exact)
                  for name, make in {**EXACT, **QUANTISED}.items()]
    if device == "cuda":
        for _ in range(rounds):
            for contender in contenders:
                if not contender.missing:
                    contender.time_round()
    rounded = exact.to(torch.bfloat16).float()
    choice = SDPBackend(torch._fused_sdp_choice(*(x.transpose(1, 2) for x in inputs))).name
    return {"shape": shape.name, "heads": shape.heads, "tokens": shape.tokens,
            "head_channels": shape.channels, "torch_chooses": choice,
            "allowed_error": 2 * ((rounded - exact).norm() / exact.norm()).item(),
            "backends": [contender.describe(shape) for contender in contenders]}


def wrong(rows):
    """Exact backends that are not."""
    return [f"{row['shape']}, {backend['name']}: {backend['relative_error']} from fp32"
            for row in rows for backend in row["backends"]
            if backend["exact"] and not backend.get("missing")
            and not backend["relative_error"] <= row["allowed_error"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tiny", action="store_true", help="small shapes on the CPU, untimed")
    parser.add_argument("--json", help="required without --tiny")
    options = parser.parse_args()
    if not options.tiny and not options.json:
        parser.error("--json: required, got none")
    device = "cpu" if options.tiny else "cuda"
    rows = []
    for shape in TINY if options.tiny else SHAPES:
        rows.append(measure(shape, device, options.rounds))
        print(json.dumps(rows[-1]), flush=True)
    complaint = "\n".join(wrong(rows)) or None
    if options.tiny:
        sys.exit(complaint)
    write_result(options.json, {"cudnn": torch.backends.cudnn.version(), "dtype": "bf16",
                                "calls": CALLS, "shapes": rows})
    sys.exit(complaint)


if __name__ == "__main__":
    main()
