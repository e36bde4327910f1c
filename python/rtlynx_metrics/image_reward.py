# SPDX-License-Identifier: Apache-2.0
"""ImageReward 1.0 (Xu et al. 2023) by its package."""

import contextlib
import math

import torch

from .errors import MetricsError, import_extra, require_weights

# The package takes a checkpoint with any of its tensors missing, and scores with random ones.
ONE_OF_THE_TENSORS = "mlp.layers.0.weight"


def require_checkpoint(path):
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds
        raise MetricsError(f"{path}: required a state dict of torch.save, got: {error}") from error
    if not isinstance(state, dict) or ONE_OF_THE_TENSORS not in state:
        raise MetricsError(f"{path}: required ImageReward's state dict, with {ONE_OF_THE_TENSORS}, "
                           "found none")


def load_image_reward(weights, device):
    """The package's model of the absolute path `weights`. The package asks for its tokenizer as
    "bert-base-uncased", which is that folder of `weights` while it is the working folder."""
    source = "of THUDM/ImageReward"
    checkpoint = require_weights(weights / "ImageReward" / "ImageReward.pt",
                                 f"ImageReward.pt {source}")
    config = require_weights(weights / "ImageReward" / "med_config.json",
                             f"med_config.json {source}")
    require_weights(weights / "bert-base-uncased", "the tokenizer bert-base-uncased")
    require_checkpoint(checkpoint)
    package = import_extra("ImageReward", "image-reward")
    with contextlib.chdir(weights), contextlib.redirect_stdout(None):
        return package.load(str(checkpoint), device=str(device), med_config=str(config))


class ImageReward:
    """A learned human preference for a picture given its prompt, which is cut at 35 tokens;
    standardized, so that 0 is an average picture of its training."""

    key = "image_reward"
    least = -math.inf

    def __init__(self, load):
        self._model = load()
        if not callable(getattr(self._model, "score", None)):
            raise MetricsError("image-reward: required a model with score(prompt, path), got "
                               + type(self._model).__name__)

    def __call__(self, picture):
        with torch.inference_mode():
            return float(self._model.score(picture.prompt, str(picture.path)))
