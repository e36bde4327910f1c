# SPDX-License-Identifier: Apache-2.0
"""A FluxPipeline of the goldens' small parts, and stand-ins for trained networks."""

import json
import pathlib
import shutil

import numpy as np
import torch
from PIL import Image

from rtlynx_metrics.measure import Networks

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"
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
