# SPDX-License-Identifier: Apache-2.0
"""Loads lynx-mini by RTLynxConfig, saves it with its compensation, and loads it again.

    python examples/python/diffusers_save.py [compensation.safetensors]
"""

import pathlib
import sys
import tempfile

import torch
from diffusers import FluxTransformer2DModel

import rtlynx

FOLDER = pathlib.Path(__file__).parents[2] / "models" / "lynx-mini" / "transformer"

config = rtlynx.RTLynxConfig(*sys.argv[1:2], force=True)
model = FluxTransformer2DModel.from_pretrained(FOLDER, quantization_config=config)
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    again = FluxTransformer2DModel.from_pretrained(folder)
count = len(rtlynx.report(again).sparse_layers)
same = all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))
print(f"{count} sparse layers, {'the same' if same else 'other'} parameters")
