#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/goldens/vae_*: small random autoencoders, and what diffusers computes with them, for
the C++ autoencoders to be held to.

    make_vae_goldens.py            write the goldens
    make_vae_goldens.py --check    recompute and compare with the committed ones

Needs diffusers 0.42.1.
"""

import shutil
import sys

import diffusers
import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage, AutoencoderTiny
from safetensors.torch import save_file

from make_goldens import DIFFUSERS_VERSION, run

KL = dict(block_out_channels=(4, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=2,
          down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
          scaling_factor=0.3611, shift_factor=0.1159, sample_size=16, use_quant_conv=False,
          use_post_quant_conv=False)
QWEN_IMAGE = dict(base_dim=4, z_dim=4, dim_mult=[1, 1, 2], num_res_blocks=1, attn_scales=[],
                  temperal_downsample=[False, True],
                  latents_mean=[-0.7571, 0.9653, 1.5508, -0.0715],
                  latents_std=[2.8184, 1.4541, 2.3275, 0.6558])
TINY = dict(latent_channels=4, encoder_block_out_channels=(4,), num_encoder_blocks=(1,),
            decoder_block_out_channels=(8, 8, 8), num_decoder_blocks=(2, 1, 1))


def fill(model, last, generator):
    """Random values of a size at which each part moves the output and little is clamped."""
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
            parameter.copy_(1 + 0.3 * noise)
        elif parameter.ndim > 1:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
        else:
            parameter.copy_(0.1 * noise)
    last.weight.mul_(0.3)


def in_both_types(model, run):
    """run(type)'s tensors in fp32 and, as "<name>.bf16", of the model cast to bf16."""
    tensors = dict(run(torch.float32))
    model.to(torch.bfloat16)
    tensors.update({f"{name}.bf16": value for name, value in run(torch.bfloat16).items()})
    return tensors


def inputs(generator):
    return {"in.latents": torch.randn(2, 4, 5, 7, generator=generator),
            "in.pixels": 2 * torch.rand(2, 3, 20, 12, generator=generator) - 1,
            "in.large_latents": torch.randn(1, 4, 6, 7, generator=generator),
            "in.large_pixels": 2 * torch.rand(1, 3, 24, 28, generator=generator) - 1}


def make_kl(folder):
    generator = torch.Generator().manual_seed(11)
    model = AutoencoderKL(**KL).eval()
    fill(model, model.decoder.conv_out, generator)
    model.save_pretrained(folder)
    given = inputs(generator)

    def decode(latents, dtype):
        return model.decode(latents.to(dtype) / KL["scaling_factor"] + KL["shift_factor"]).sample

    def run(dtype):
        posterior = model.encode(given["in.pixels"].to(dtype)).latent_dist
        tensors = {"pixels": decode(given["in.latents"], dtype), "mean": posterior.mean,
                   "deviation": posterior.std,
                   "scaled": (posterior.mean - KL["shift_factor"]) * KL["scaling_factor"]}
        if dtype == torch.float32:
            model.enable_tiling()  # 4 latents, a quarter of which overlaps
            tensors["tiled.pixels"] = decode(given["in.large_latents"], dtype)
            tensors["tiled.mean"] = model.encode(given["in.large_pixels"]).latent_dist.mean
            model.disable_tiling()
        return tensors

    return {**given, **in_both_types(model, run)}


def make_qwen_image(folder):
    generator = torch.Generator().manual_seed(12)
    model = AutoencoderKLQwenImage(**QWEN_IMAGE).eval()
    fill(model, model.decoder.conv_out, generator)
    model.save_pretrained(folder)
    given = inputs(generator)

    def decode(latents, dtype):
        latents = latents.to(dtype).unsqueeze(2)
        mean = torch.tensor(QWEN_IMAGE["latents_mean"]).view(1, 4, 1, 1, 1).to(dtype)
        inverse = 1.0 / torch.tensor(QWEN_IMAGE["latents_std"]).view(1, 4, 1, 1, 1).to(dtype)
        return model.decode(latents / inverse + mean, return_dict=False)[0][:, :, 0]

    def run(dtype):
        posterior = model.encode(given["in.pixels"].to(dtype).unsqueeze(2)).latent_dist
        mean = torch.tensor(QWEN_IMAGE["latents_mean"]).view(1, 4, 1, 1, 1).to(dtype)
        inverse = 1.0 / torch.tensor(QWEN_IMAGE["latents_std"]).view(1, 4, 1, 1, 1).to(dtype)
        tensors = {"pixels": decode(given["in.latents"], dtype), "mean": posterior.mean[:, :, 0],
                   "deviation": posterior.std[:, :, 0],
                   "scaled": ((posterior.mean - mean) * inverse)[:, :, 0]}
        if dtype == torch.float32:
            model.enable_tiling(16, 16, 12, 12)  # as AutoencoderKL's: 4 latents, one in common
            tensors["tiled.pixels"] = decode(given["in.large_latents"], dtype)
            large = model.encode(given["in.large_pixels"].unsqueeze(2)).latent_dist
            tensors["tiled.mean"] = large.mean[:, :, 0]
            model.disable_tiling()
        return tensors

    return {**given, **in_both_types(model, run)}


def make_tiny(folder):
    generator = torch.Generator().manual_seed(13)
    model = AutoencoderTiny(**TINY).eval()
    fill(model, model.decoder.layers[-1], generator)
    model.save_pretrained(folder)
    given = {"in.latents": 3 * torch.randn(2, 4, 5, 7, generator=generator)}  # tanh bends them
    return {**given, **in_both_types(model, lambda dtype: {
        "pixels": model.decode(given["in.latents"].to(dtype)).sample})}


def make_all(root):
    for name, make in {"vae_kl": make_kl, "vae_qwen_image": make_qwen_image,
                       "vae_tiny": make_tiny}.items():
        shutil.rmtree(root / name, ignore_errors=True)
        tensors = make(root / name)
        save_file({key: value.contiguous() for key, value in tensors.items()},
                  root / name / "io.safetensors",
                  metadata={"made_with": f"tools/make_vae_goldens.py, diffusers "
                                         f"{diffusers.__version__}, torch {torch.__version__}"})


if __name__ == "__main__":
    sys.exit(run(__doc__, diffusers, DIFFUSERS_VERSION, make_all))
