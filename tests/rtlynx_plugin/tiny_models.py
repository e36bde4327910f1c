# SPDX-License-Identifier: Apache-2.0
"""diffusers' transformers in tiny configurations, with arguments of a step."""

import torch


def _random(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(5)).to(dtype)


def flux(blocks=1, singles=1, **options):
    from diffusers import FluxTransformer2DModel
    torch.manual_seed(0)
    return FluxTransformer2DModel(**{**dict(
        patch_size=1, in_channels=4, num_layers=blocks, num_single_layers=singles,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32,
        pooled_projection_dim=32, axes_dims_rope=[4, 4, 8]), **options}).eval()


def flux_arguments(batch=1, image=16, text=48, dtype=torch.float32):
    return dict(
        hidden_states=_random(batch, image, 4, dtype=dtype),
        encoder_hidden_states=_random(batch, text, 32, dtype=dtype),
        pooled_projections=_random(batch, 32, dtype=dtype),
        timestep=torch.full((batch,), 0.5, dtype=dtype),
        img_ids=_random(image, 3), txt_ids=_random(text, 3), return_dict=False)


def qwen_image(blocks=2, **options):
    from diffusers import QwenImageTransformer2DModel
    torch.manual_seed(0)
    return QwenImageTransformer2DModel(**{**dict(
        patch_size=2, in_channels=16, out_channels=4, num_layers=blocks, attention_head_dim=16,
        num_attention_heads=4, joint_attention_dim=16, guidance_embeds=False,
        axes_dims_rope=(8, 4, 4)), **options}).eval()


def qwen_image_arguments(batch=1, side=4, text=7, dtype=torch.float32):
    return dict(
        hidden_states=_random(batch, side * side, 16, dtype=dtype),
        encoder_hidden_states=_random(batch, text, 16, dtype=dtype),
        encoder_hidden_states_mask=torch.ones(batch, text, dtype=torch.long),
        timestep=torch.full((batch,), 0.5, dtype=dtype),
        img_shapes=[(1, side, side)] * batch, return_dict=False)


def z_image(blocks=1, **options):
    from diffusers import ZImageTransformer2DModel
    torch.manual_seed(0)
    # int(dim / 3 * 8) channels in the MLP: 48 gives 128, which 16 divides.
    model = ZImageTransformer2DModel(**{**dict(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=48, n_layers=blocks,
        n_refiner_layers=1, n_heads=3, n_kv_heads=3, qk_norm=True, cap_feat_dim=16,
        rope_theta=256.0, t_scale=1000.0, axes_dims=[8, 4, 4], axes_lens=[256, 32, 32]),
        **options}).eval()
    for name, parameter in model.named_parameters():
        if "pad_token" in name:  # not initialised
            torch.nn.init.zeros_(parameter)
    return model


def z_image_arguments(batch=1, side=8, text=8, dtype=torch.float32):
    return dict(
        x=list(_random(batch, 16, 1, side, side, dtype=dtype)),
        t=torch.full((batch,), 0.5, dtype=torch.float32),
        cap_feats=list(_random(batch, text, 16, dtype=dtype)), return_dict=False)


FAMILIES = {"flux": (flux, flux_arguments), "qwen_image": (qwen_image, qwen_image_arguments),
            "z_image": (z_image, z_image_arguments)}


def output_of(result):
    """The sample of a model called with return_dict=False."""
    sample = result[0]
    return torch.stack(list(sample)) if isinstance(sample, (list, tuple)) else sample


WITHOUT_OTHER_MODELS = dict(vae=None, text_encoder=None, tokenizer=None, text_encoder_2=None,
                            tokenizer_2=None)


def flux_pipeline(transformer, cls=None, **others):
    """A FluxPipeline, or another, of this transformer alone: for prompt_embeds and latents."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
    pipe = (cls or FluxPipeline)(scheduler=FlowMatchEulerDiscreteScheduler(),
                                 transformer=transformer, **WITHOUT_OTHER_MODELS, **others)
    pipe.set_progress_bar_config(disable=True)
    return pipe
