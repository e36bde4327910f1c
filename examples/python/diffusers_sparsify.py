# SPDX-License-Identifier: Apache-2.0
"""A FLUX transformer in diffusers, sparsified: lynx-mini, the small model of this repository.

    python examples/python/diffusers_sparsify.py [compensation.safetensors]
"""

import pathlib
import sys

import torch
from diffusers import FluxTransformer2DModel

import rtlynx

FOLDER = pathlib.Path(__file__).parents[2] / "models" / "lynx-mini" / "transformer"

model = FluxTransformer2DModel.from_pretrained(FOLDER).eval()
config = model.config
positions = torch.arange(256)
step = dict(hidden_states=torch.randn(1, 256, config.in_channels),
            encoder_hidden_states=torch.randn(1, 32, config.joint_attention_dim),
            pooled_projections=torch.randn(1, config.pooled_projection_dim),
            timestep=torch.tensor([0.5]), txt_ids=torch.zeros(32, 3), return_dict=False,
            img_ids=torch.stack([torch.zeros(256), positions // 16, positions % 16], -1))

with torch.no_grad():
    dense = model(**step)[0]
    # So small a model is faster dense: force shows what sparse does.
    print(rtlynx.sparsify(model, *sys.argv[1:2], force=True))
    sparse = model(**step)[0]
    rtlynx.restore(model)
    assert torch.equal(model(**step)[0], dense)
print(f"\nrelative difference of the velocity: {(sparse - dense).norm() / dense.norm():.3f}")
