# SPDX-License-Identifier: Apache-2.0
"""A gated MLP behind a LayerNorm on 2:4-sparse inputs, with the operators alone.

PYTHONPATH=python RTLYNX_OPS_LIBRARY=build/cpu/src/ops/librtlynx_ops.so \
    python examples/python/operators.py
"""

import torch
import torch.nn.functional as F

import rtlynx

TOKENS, CHANNELS, HIDDEN, RANK = 64, 128, 512, 16


def dense_mlp(x, up, down, gate):
    h = F.gelu(F.layer_norm(x, x.shape[-1:], eps=1e-6) @ up.T, approximate="tanh")
    return x + gate * (h @ down.T)


def sparse_mlp(x, up, down, gate, lora_down, lora_up):
    # One pass over x: its norm, what is kept of it, and what the low rank reads.
    packed = rtlynx.pack(x, producer="layer_norm", down=lora_down)
    h, = rtlynx.product(packed, [up], ups=[lora_up], activations=["gelu"])
    # Gate and residual belong to the product.
    y, = rtlynx.product(rtlynx.pack(h), [down], gates=[gate], residuals=[x])
    return y


def main():
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    tensors = [torch.randn(2, TOKENS, CHANNELS), torch.randn(HIDDEN, CHANNELS) / CHANNELS**0.5,
               torch.randn(CHANNELS, HIDDEN) / HIDDEN**0.5, torch.randn(2, CHANNELS) * 0.5]
    x, up, down, gate = (tensor.to(device, dtype) for tensor in tensors)
    # Nothing to correct here: a low rank of zeros (docs/compensation.md computes real ones).
    lora_down, lora_up = x.new_zeros(RANK, CHANNELS), x.new_zeros(HIDDEN, RANK)
    with torch.inference_mode():
        y = sparse_mlp(x, up, down, gate, lora_down, lora_up)
        exact = dense_mlp(x, up, down, gate[:, None])
        error = (y - exact).norm() / exact.norm()
        compiled = torch.compile(sparse_mlp, fullgraph=True, backend="aot_eager")
        alike = torch.equal(compiled(x, up, down, gate, lora_down, lora_up), y)
    print(f"error against dense {error:.3f}, compiled {'alike' if alike else 'differently'}")


if __name__ == "__main__":
    main()
