#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/goldens/qwen_image_*: small random Qwen-Image transformers and what diffusers
computes with them, for the C++ model to be held to.

    make_qwen_image_goldens.py            write the goldens
    make_qwen_image_goldens.py --check    recompute and compare with the committed ones
"""

import shutil
import sys

import diffusers
import torch
from diffusers import QwenImageTransformer2DModel
from safetensors.torch import save_file

from make_goldens import DIFFUSERS_VERSION, fill, made_with, run

# Together these cover: one and several blocks, head dimensions 16 to 64, three splits of the rotary
# axes, odd and even, equal and unequal numbers of rows and columns, reference images of other sizes
# behind the image (one of them the largest, where text positions begin), a batch with a time of its
# own for each image, prompts of one length and of several, output channels other than the input's.
CASES = {
    "qwen_image_1x1": dict(
        config=dict(in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16,
                    num_attention_heads=2, joint_attention_dim=24, axes_dims_rope=(4, 6, 6)),
        seed=41, shapes=[(4, 4)], text=[7]),
    "qwen_image_odd": dict(
        config=dict(in_channels=8, out_channels=None, patch_size=1, num_layers=2,
                    attention_head_dim=16, num_attention_heads=2, joint_attention_dim=20,
                    axes_dims_rope=(8, 4, 4)),
        seed=42, shapes=[(5, 7)], text=[9, 9]),
    "qwen_image_padded": dict(
        config=dict(in_channels=12, out_channels=3, num_layers=2, attention_head_dim=24,
                    num_attention_heads=1, joint_attention_dim=16, axes_dims_rope=(4, 8, 12)),
        seed=43, shapes=[(6, 3)], text=[3, 11, 6]),
    "qwen_image_edit": dict(
        config=dict(in_channels=8, out_channels=2, num_layers=1, attention_head_dim=64,
                    num_attention_heads=1, joint_attention_dim=16, axes_dims_rope=(16, 24, 24)),
        seed=44, shapes=[(3, 4), (9, 2), (1, 5)], text=[5, 2]),
}


def make_inputs(case, generator):
    config, text = case["config"], case["text"]
    tokens = sum(rows * columns for rows, columns in case["shapes"])
    return {
        "hidden_states": torch.randn(len(text), tokens, config["in_channels"],
                                     generator=generator),
        "encoder_hidden_states": torch.randn(len(text), max(text), config["joint_attention_dim"],
                                             generator=generator),
        "text_tokens": torch.tensor(text),
        "timestep": torch.rand(len(text), generator=generator),
        "img_shapes": torch.tensor(case["shapes"]),
    }


def forward(model, inputs, dtype):
    """As diffusers' pipeline calls it: a mask only if a prompt is padded."""
    text = inputs["encoder_hidden_states"]
    mask = torch.arange(text.shape[1])[None, :] < inputs["text_tokens"][:, None]
    shapes = [(1, rows, columns) for rows, columns in inputs["img_shapes"].tolist()]
    return model(hidden_states=inputs["hidden_states"].to(dtype),
                 encoder_hidden_states=text.to(dtype),
                 encoder_hidden_states_mask=None if mask.all() else mask,
                 timestep=inputs["timestep"].to(dtype),
                 img_shapes=[shapes] * text.shape[0],
                 return_dict=False)[0]


def make(case, folder):
    generator = torch.Generator().manual_seed(case["seed"])
    model = QwenImageTransformer2DModel(**case["config"]).eval()
    fill(model, generator)
    inputs = make_inputs(case, generator)
    # In bf16 the weights take half the space, and the model computed in fp32 has the very same.
    model.to(torch.bfloat16).save_pretrained(folder)
    model.to(torch.float32)
    tensors = {f"in.{name}": value for name, value in inputs.items()}
    tensors["out"] = forward(model, inputs, torch.float32)
    tensors["out.bf16"] = forward(model.to(torch.bfloat16), inputs, torch.bfloat16)
    save_file({name: value.contiguous() for name, value in tensors.items()},
              folder / "io.safetensors",
              metadata={"made_with": made_with("make_qwen_image_goldens.py")})


def make_all(folder):
    for name, case in CASES.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        make(case, folder / name)


if __name__ == "__main__":
    sys.exit(run(__doc__, diffusers, DIFFUSERS_VERSION, make_all))
