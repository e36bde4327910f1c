# SPDX-License-Identifier: Apache-2.0
"""Makes a compensation of a transformer from steps on random inputs, and uses it.

With a pipeline, `run` is a loop over prompts: `for prompt in prompts: pipe(prompt, generator=...)`.
"""

import torch
from diffusers import FluxTransformer2DModel

import rtlynx

torch.manual_seed(0)
model = FluxTransformer2DModel(
    patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
    num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
    axes_dims_rope=[4, 4, 8]).eval()


def run():
    generator = torch.Generator().manual_seed(1)  # every pass has to see the same
    random = lambda *shape: torch.randn(shape, generator=generator)
    with torch.inference_mode():
        for _ in range(8):
            model(hidden_states=random(1, 64, 4), encoder_hidden_states=random(1, 64, 32),
                  pooled_projections=random(1, 32), timestep=torch.rand(1, generator=generator),
                  img_ids=torch.zeros(64, 3), txt_ids=torch.zeros(64, 3))


rtlynx.calibrate(model, run, "calibrated.safetensors", rank=16)
print(rtlynx.sparsify(model, "calibrated.safetensors", force=True))
