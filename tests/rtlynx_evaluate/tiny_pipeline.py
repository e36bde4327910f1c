# SPDX-License-Identifier: Apache-2.0
"""Pipelines of the goldens' small parts, and stand-ins for trained networks."""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from PIL import Image

from rtlynx_metrics.measure import Networks

TESTS = pathlib.Path(__file__).resolve().parents[1]
GOLDENS = TESTS / "goldens"
sys.path.append(str(TESTS / "rtlynx_plugin"))
import tiny_models  # noqa: E402
PARTS = {"tokenizer": "text_flux/tokenizer", "tokenizer_2": "text_flux/tokenizer_2",
         "text_encoder": "text_flux/text_encoder", "text_encoder_2": "text_flux/text_encoder_2",
         "vae": "vae_kl"}


def build(folder):
    """A pipeline's folder, and with it MJHQ's form of prompts with their pictures."""
    shutil.copytree(GOLDENS / "pipeline_flux_dev", folder / "model")
    for part, golden in PARTS.items():
        shutil.copytree(GOLDENS / golden, folder / "model" / part)
    prompts = {f"{letter}{letter}01": {"category": "animals", "prompt": f"a {word} cat"}
               for letter, word in zip("abcdefgh", ("red", "blue", "green", "white", "black",
                                                    "small", "large", "quiet"))}
    (folder / "meta_data.json").write_text(json.dumps(prompts))
    (folder / "photos" / "animals").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in prompts:
        Image.fromarray(generator.integers(0, 255, size=(40, 24, 3)).astype(np.uint8)).save(
            folder / "photos" / "animals" / f"{name}.jpg")
    return folder / "model", folder / "meta_data.json"


def build_qwen_image(folder):
    """A QwenImagePipeline's folder."""
    import diffusers
    import transformers
    pipe = diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=diffusers.AutoencoderKLQwenImage.from_pretrained(GOLDENS / "vae_qwen_image"),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
            GOLDENS / "text_qwen_image" / "text_encoder"),
        tokenizer=transformers.Qwen2Tokenizer.from_pretrained(
            GOLDENS / "text_qwen_image" / "tokenizer"),
        transformer=tiny_models.qwen_image())
    pipe.save_pretrained(folder)


def build_z_image(folder):
    """A ZImagePipeline's folder."""
    import diffusers
    import transformers
    pipe = diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=diffusers.AutoencoderKL.from_pretrained(GOLDENS / "vae_kl"),
        text_encoder=transformers.AutoModel.from_pretrained(GOLDENS / "text_z_image" / "text_encoder"),
        tokenizer=transformers.AutoTokenizer.from_pretrained(GOLDENS / "text_z_image" / "tokenizer"),
        transformer=tiny_models.z_image(in_channels=4))
    pipe.save_pretrained(folder)


class MeanColours:
    """Stands in for Inception."""

    name = "mean colours"

    def __call__(self, pictures):
        return torch.stack([torch.from_numpy(picture.astype(np.float64)).mean((0, 1))
                            for picture in pictures])


class StandIns(Networks):
    def __init__(self, weights, device):
        super().__init__(weights, device)
        self.inception = MeanColours
