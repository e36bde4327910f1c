# SPDX-License-Identifier: Apache-2.0
"""Small networks in the place of the trained ones, and pictures as rtlynx generate writes them."""

import json
import pathlib
import tempfile
import unittest

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from rtlynx_metrics.errors import MetricsError
from rtlynx_metrics.measure import Networks

SIDE = 32
COLOURS = ("red", "green", "blue")


def tiny_clip(folder):
    """A random CLIP of a few thousand weights, with a tokenizer of letters, as transformers saves
    it."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor
    from transformers import CLIPTokenizer
    from transformers.utils.logging import disable_progress_bar
    disable_progress_bar()
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in "abcdefghijklmnopqrstuvwxyz.":
        for token in (letter, letter + "</w>"):
            vocabulary[token] = len(vocabulary)
    width = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(
        text_config=dict(width, vocab_size=len(vocabulary), max_position_embeddings=24,
                         bos_token_id=0, eos_token_id=1, pad_token_id=1),
        vision_config=dict(width, image_size=SIDE, patch_size=8), projection_dim=8))
    model.save_pretrained(folder)
    CLIPProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": SIDE},
                                              crop_size={"height": SIDE, "width": SIDE}),
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[])).save_pretrained(folder)


class MeanColours:
    """Stands in for Inception: features of which the distance is known."""

    name = "mean colours"

    def __call__(self, pictures):
        return torch.stack([torch.from_numpy(picture.astype(np.float64)).mean((0, 1))
                            for picture in pictures])


class Redness:
    """Stands in for ImageReward."""

    def score(self, prompt, path):
        with Image.open(path) as image:
            return np.asarray(image)[..., 0].mean() / 255 + len(prompt) / 100


class MeanDistance:
    """Stands in for LPIPS."""

    def __call__(self, picture, partner):
        one, other = (np.asarray(Image.open(each.path), dtype=np.float64)
                      for each in (picture, partner))
        return np.abs(one - other).mean() / 255


class StandIns(Networks):
    """The loading code of CLIP is the real one, of a tiny model in `weights`."""

    def __init__(self, weights):
        super().__init__(weights, "cpu")
        self.inception = MeanColours
        self.image_reward = Redness
        self.lpips = MeanDistance


class MetricsTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def draw(self, name, count=20, seed=0, brighter=0, side=SIDE, **facts):
        """Pictures as rtlynx generate writes them."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        generator = np.random.default_rng(seed)
        for index in range(count):
            pixels = generator.integers(0, 200, size=(side, side, 3)) + brighter
            info = PngImagePlugin.PngInfo()
            said = {"prompt": f"a {COLOURS[index % 3]} circle", "seed": index, "mode": "norm",
                    **facts}
            info.add_text("rtlynx", json.dumps({key: value for key, value in said.items()
                                                if value is not None}))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"x-{index:04}.png",
                                                          pnginfo=info)
        return folder

    def assert_refused(self, words, act, *arguments, **options):
        with self.assertRaises(MetricsError) as caught:
            act(*arguments, **options)
        for word in words:
            self.assertIn(word, str(caught.exception))
