# SPDX-License-Identifier: Apache-2.0
"""A denoising step of each family in diffusers: the model with random weights, and its arguments."""

from dataclasses import dataclass
from typing import Callable

import torch


class Setting:
    """Where, in which type, and how large."""

    def __init__(self, tiny=False):
        self.tiny = tiny
        self.device = "cpu" if tiny else "cuda"
        self.dtype = torch.float32 if tiny else torch.bfloat16

    def random(self, *shape):
        return torch.randn(shape, device=self.device, dtype=self.dtype)

    @torch.no_grad()
    def fill(self, model):
        """Random weights that keep activations of order one, made on the device."""
        model = model.to(self.dtype).to_empty(device=self.device).eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            else:
                parameter.normal_(0, parameter.shape[1] ** -0.5)
        return model


@dataclass
class Step:
    model: torch.nn.Module
    arguments: dict
    tokens: dict  # of one picture, by stream


def flux(setting, side, text, batch):
    """FLUX.1-dev."""
    from diffusers import FluxTransformer2DModel
    small = dict(num_layers=2, num_single_layers=2, attention_head_dim=64, num_attention_heads=2,
                 joint_attention_dim=64, pooled_projection_dim=32, axes_dims_rope=(8, 28, 28))
    with torch.device("meta"):
        model = FluxTransformer2DModel(guidance_embeds=True, **(small if setting.tiny else {}))
    config, device, image = model.config, setting.device, (side // 16) ** 2
    positions = torch.arange(image, device=device)
    rows, columns = positions // (side // 16), positions % (side // 16)
    arguments = dict(
        hidden_states=setting.random(batch, image, config.in_channels),
        encoder_hidden_states=setting.random(batch, text, config.joint_attention_dim),
        pooled_projections=setting.random(batch, config.pooled_projection_dim),
        timestep=torch.full([batch], 0.5, device=device, dtype=setting.dtype),
        # 1000 times it is read in bf16, as which 3500 would be 3504.
        guidance=torch.full([batch], 4.0, device=device),
        img_ids=torch.stack([torch.zeros_like(positions), rows, columns], -1).float(),
        txt_ids=torch.zeros(text, 3, device=device), return_dict=False)
    return Step(setting.fill(model), arguments, {"image": image, "text": text})


def qwen_image(setting, side, text, batch):
    """Qwen-Image."""
    from diffusers import QwenImageTransformer2DModel
    from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope
    small = dict(num_layers=2, attention_head_dim=64, num_attention_heads=2, joint_attention_dim=64,
                 axes_dims_rope=(8, 28, 28))
    with torch.device("meta"):
        model = QwenImageTransformer2DModel(**(small if setting.tiny else {}))
    config, grid = model.config, side // 16
    # Its tables are no buffers: the ones of a model on meta are lost.
    model.pos_embed = QwenEmbedRope(theta=10000, axes_dim=list(config.axes_dims_rope),
                                    scale_rope=True)
    arguments = dict(
        hidden_states=setting.random(batch, grid * grid, config.in_channels),
        encoder_hidden_states=setting.random(batch, text, config.joint_attention_dim),
        timestep=torch.full([batch], 0.5, device=setting.device, dtype=setting.dtype),
        img_shapes=[[(1, grid, grid)]] * batch, return_dict=False)
    return Step(setting.fill(model), arguments, {"image": grid * grid, "text": text})


def z_image(setting, side, text, batch):
    """Z-Image."""
    from diffusers import ZImageTransformer2DModel
    small = dict(dim=384, n_layers=2, n_refiner_layers=1, n_heads=3, n_kv_heads=3, cap_feat_dim=64)
    with torch.device("meta"):
        model = ZImageTransformer2DModel(**(small if setting.tiny else {}))
    config, latents = model.config, side // 8
    pictures = range(batch)
    arguments = dict(
        x=[setting.random(config.in_channels, 1, latents, latents) for _ in pictures],
        t=torch.full([batch], 0.5, device=setting.device),
        cap_feats=[setting.random(text, config.cap_feat_dim) for _ in pictures], return_dict=False)
    return Step(setting.fill(model), arguments, {"image": (side // 16) ** 2, "text": text})


@dataclass
class Family:
    make: Callable  # (setting, side, text, batch) -> Step
    key: str        # as the names of figures have it
    side: int       # pixels
    text: int       # tokens


FAMILIES = {  # by the names that `rtlynx bench --step` has
    "flux": Family(flux, "flux", 1024, 512),
    "qwen-image": Family(qwen_image, "qwen", 1328, 64),
    "z-image": Family(z_image, "zimage", 1024, 128),
}
