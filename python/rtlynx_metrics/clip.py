# SPDX-License-Identifier: Apache-2.0
"""CLIP-Score (Hessel et al. 2021) and CLIP-IQA (Wang et al. 2023) by torchmetrics."""

import math

import torch

from .errors import MetricsError, import_extra, require_weights
from .pictures import read_pixels

WEIGHTS = "clip-vit-large-patch14"


class TensorFeatures(torch.nn.Module):
    """A transformers CLIPModel whose features are tensors, as torchmetrics takes them: from
    transformers 5 on they come within an object."""

    def __init__(self, clip):
        super().__init__()
        self.clip = clip
        self.config = clip.config

    def get_image_features(self, *inputs):
        return _tensor(self.clip.get_image_features(*inputs))

    def get_text_features(self, *inputs):
        return _tensor(self.clip.get_text_features(*inputs))


def _tensor(features):
    return features if isinstance(features, torch.Tensor) else features.pooler_output


def load_clip(weights):
    """(model, processor) of the folder in transformers' layout."""
    path = require_weights(weights / WEIGHTS, f"openai/{WEIGHTS}, as transformers saves it,")
    transformers = import_extra("transformers", "metrics")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model = transformers.CLIPModel.from_pretrained(path, local_files_only=True)
        processor = transformers.CLIPProcessor.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise MetricsError(f"{path}: required a CLIP model and its processor, got: {error}") \
            from error
    return TensorFeatures(model.eval()), processor


class ClipScore:
    """100 cos of a picture and its prompt, which is cut at 77 tokens. The mean is what is published;
    it counts as 0 if it is below."""

    key = "clip_score"
    least = 0.0

    def __init__(self, load, device):
        metrics = import_extra("torchmetrics.multimodal.clip_score", "metrics")
        self._metric = metrics.CLIPScore(load).to(device)

    def __call__(self, picture):
        self._metric.reset()
        with torch.inference_mode():
            self._metric.update(read_pixels(picture.path).to(self._metric.device), picture.prompt)
        return float(self._metric.score / self._metric.n_samples)


class ClipIqa:
    """softmax(100 cos) of a picture with "Good photo." against "Bad photo."."""

    key = "clip_iqa"
    least = -math.inf

    def __init__(self, load, device):
        metrics = import_extra("torchmetrics.multimodal.clip_iqa", "metrics")
        # The processor takes 0 to 255; torchmetrics is to leave that as it is.
        self._metric = metrics.CLIPImageQualityAssessment(load, data_range=1.0).to(device)

    def __call__(self, picture):
        self._metric.reset()
        pixels = read_pixels(picture.path)[None].float().to(self._metric.device)
        self._metric.update(pixels)
        return float(self._metric.compute())
