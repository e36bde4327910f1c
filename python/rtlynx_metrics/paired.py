# SPDX-License-Identifier: Apache-2.0
"""How far a picture is from the one of the same prompt and seed by the first method: LPIPS (Zhang et
al. 2018), PSNR and SSIM (Wang et al. 2004) by torchmetrics."""

import contextlib
import math

import torch

from .errors import MetricsError, import_extra, require_weights
from .pictures import read_pixels

BACKBONE = "checkpoints/alexnet-owt-7be5be79.pth"
SSIM_WINDOW = 11


def read_pair(picture, partner, device):
    """Two pictures, float [1, 3, H, W] from 0 to 1."""
    pair = [read_pixels(each.path)[None].float().to(device) / 255 for each in (picture, partner)]
    sizes = [f"{pixels.shape[3]} x {pixels.shape[2]}" for pixels in pair]
    if sizes[0] != sizes[1]:
        raise MetricsError(f"{picture.path}: required the size of {partner.path}, {sizes[1]}, "
                           f"got {sizes[0]}")
    return pair


class Psnr:
    """In dB. Of equal pictures it would be infinite: they count as if one value differed by one of
    255."""

    key = "psnr"
    least = -math.inf

    def __init__(self, device):
        self._metric = import_extra("torchmetrics.functional.image", "metrics") \
            .peak_signal_noise_ratio
        self._device = device

    def __call__(self, picture, partner):
        one, other = read_pair(picture, partner, self._device)
        if torch.equal(one, other):
            return 10 * math.log10(255**2 * one.numel())
        return float(self._metric(one, other, data_range=1.0))


class Ssim:
    """Gaussian window of 11 pixels, sigma 1.5."""

    key = "ssim"
    least = -math.inf

    def __init__(self, device):
        self._metric = import_extra("torchmetrics.functional.image", "metrics") \
            .structural_similarity_index_measure
        self._device = device

    def __call__(self, picture, partner):
        one, other = read_pair(picture, partner, self._device)
        if min(one.shape[2:]) < SSIM_WINDOW:
            raise MetricsError(f"ssim: required pictures of {SSIM_WINDOW} pixels a side, "
                               f"got {picture.path}")
        return float(self._metric(one, other, data_range=1.0))


class Lpips:
    """AlexNet, version 0.1."""

    key = "lpips"
    least = 0.0

    def __init__(self, weights, device):
        path = require_weights(weights / BACKBONE, "torchvision's AlexNet (the heads are "
                               "torchmetrics')")
        import_extra("torchvision", "metrics")
        metrics = import_extra("torchmetrics.image.lpip", "metrics")
        with _hub_folder(weights):
            try:
                self._metric = metrics.LearnedPerceptualImagePatchSimilarity(
                    net_type="alex", normalize=True).to(device)
            except (RuntimeError, EOFError) as error:
                raise MetricsError(f"{path}: required torchvision's state dict, got: "
                                   f"{str(error).splitlines()[0]}") from error
        self._device = device

    def __call__(self, picture, partner):
        self._metric.reset()
        with torch.inference_mode():
            self._metric.update(*read_pair(picture, partner, self._device))
        return float(self._metric.compute())


@contextlib.contextmanager
def _hub_folder(folder):
    """Where torchvision looks for weights before it would download them."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(folder))
    try:
        yield
    finally:
        torch.hub.set_dir(before)
