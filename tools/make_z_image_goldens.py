#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/goldens/z_image_*: small random Z-Image transformers and what diffusers computes
with them, for the C++ model to be held to.

    make_z_image_goldens.py            write the goldens
    make_z_image_goldens.py --check    recompute and compare with the committed ones
"""

import shutil
import sys

import diffusers
import torch
from diffusers import ZImageTransformer2DModel
from safetensors.torch import save_file

from make_goldens import DIFFUSERS_VERSION, fill, made_with, run

# Together these cover: one and several blocks of each kind, head dimensions 16 to 64, patches and
# captions that need padding and such that do not, square and other images, a batch with a time of
# its own for each image and captions of different padded lengths, other values of each number in
# the config.
CASES = {
    "z_image_1x1": dict(
        config=dict(in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2,
                    cap_feat_dim=12, axes_dims=(4, 6, 6), axes_lens=(128, 32, 32)),
        seed=31, size=(8, 16), captions=[32]),
    "z_image_padded": dict(
        config=dict(in_channels=3, dim=48, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2,
                    cap_feat_dim=20, axes_dims=(8, 8, 8), axes_lens=(128, 32, 32)),
        seed=32, size=(6, 10), captions=[13, 13]),
    # The transformer of tests/goldens/pipeline_z_image as well: positions for long captions, and an
    # MLP whose channels can be kept two of four.
    "z_image_ragged": dict(
        config=dict(in_channels=4, dim=48, n_layers=2, n_refiner_layers=2, n_heads=3, n_kv_heads=3,
                    cap_feat_dim=16, axes_dims=(8, 4, 4), axes_lens=(1024, 512, 512)),
        seed=33, size=(14, 10), captions=[5, 41, 33]),
    "z_image_head64": dict(
        config=dict(in_channels=2, dim=64, n_layers=1, n_refiner_layers=0, n_heads=1, n_kv_heads=1,
                    cap_feat_dim=16, axes_dims=(16, 24, 24), axes_lens=(256, 64, 64),
                    norm_eps=1e-4, rope_theta=100.0, t_scale=500.0, all_patch_size=(1,)),
        seed=34, size=(7, 3), captions=[70]),
}


def make_inputs(case, generator):
    """The images [B, C, H, W], each caption in the rows of one tensor, and the times."""
    config, captions = case["config"], case["captions"]
    return {
        "hidden_states": torch.randn(len(captions), config["in_channels"], *case["size"],
                                     generator=generator),
        "encoder_hidden_states": torch.randn(len(captions), max(captions), config["cap_feat_dim"],
                                             generator=generator),
        "caption_tokens": torch.tensor(captions),
        "timestep": torch.rand(len(captions), generator=generator),
    }


def forward(model, inputs, dtype):
    """As diffusers' pipeline calls it: a list of images of one frame each, and of captions."""
    images = [image.unsqueeze(1).to(dtype) for image in inputs["hidden_states"]]
    captions = [caption[:count].to(dtype) for caption, count in
                zip(inputs["encoder_hidden_states"], inputs["caption_tokens"].tolist())]
    patch = model.config.all_patch_size[0]
    outputs = model(images, inputs["timestep"], captions, return_dict=False, patch_size=patch)[0]
    return torch.stack([output.squeeze(1) for output in outputs])


def make(case, folder):
    generator = torch.Generator().manual_seed(case["seed"])
    model = ZImageTransformer2DModel(**case["config"]).eval()
    fill(model, generator)
    inputs = make_inputs(case, generator)
    # The time embedding alone has 1024 x 256 weights: in bf16 they take half the space, and the
    # model computed in fp32 has the very same.
    model.to(torch.bfloat16).save_pretrained(folder)
    model.to(torch.float32)
    tensors = {f"in.{name}": value for name, value in inputs.items()}
    tensors["out"] = forward(model, inputs, torch.float32)
    tensors["out.bf16"] = forward(model.to(torch.bfloat16), inputs, torch.bfloat16)
    save_file({name: value.contiguous() for name, value in tensors.items()},
              folder / "io.safetensors", metadata={"made_with": made_with("make_z_image_goldens.py")})


def make_all(folder):
    for name, case in CASES.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        make(case, folder / name)


if __name__ == "__main__":
    sys.exit(run(__doc__, diffusers, DIFFUSERS_VERSION, make_all))
