# SPDX-License-Identifier: Apache-2.0
"""FID (Heusel et al. 2017) as clean-fid's mode "clean" measures it (Parmar et al. 2022)."""

import numpy as np
import torch

from .errors import MetricsError, import_extra, require_weights
from .intervals import JACKKNIFE_GROUPS, jackknife_groups
from .pictures import read_rgb

WEIGHTS = "inception-2015-12-05.pt"
BATCH = 32


class CleanInception:
    """clean-fid's resizing (bicubic, each colour in floats, to 299 x 299) and its Inception.

    Called with pictures uint8 [H, W, 3] it returns features, float [B, 2048].
    """

    name = "clean-fid, mode clean, Inception 2015-12-05"

    def __init__(self, weights, device):
        path = require_weights(weights / WEIGHTS, f"{WEIGHTS}, the TorchScript Inception of "
                               "stylegan2-ada-pytorch that clean-fid measures with,")
        network = import_extra("cleanfid.inception_torchscript", "metrics")
        self._resize = import_extra("cleanfid.resize", "metrics").build_resizer("clean")
        self._device = device
        try:
            self._network = network.InceptionV3W(str(path.parent), download=False).to(device)
        except RuntimeError as error:
            raise MetricsError(f"{path}: required a TorchScript Inception, got: "
                               f"{str(error).splitlines()[0]}") from error

    def __call__(self, pictures):
        resized = np.stack([self._resize(picture) for picture in pictures])
        batch = torch.from_numpy(resized).permute(0, 3, 1, 2).to(self._device)
        return self._network(batch)


def picture_features(paths, network):
    """Yields the features [F], float64, of each picture, computed in batches."""
    for first in range(0, len(paths), BATCH):
        pictures = [read_rgb(path) for path in paths[first:first + BATCH]]
        with torch.inference_mode():
            yield from network(pictures).double().cpu().numpy()


class FrechetReference:
    """The Gaussian that pictures are held against, and its root, which every distance needs."""

    def __init__(self, features):
        self._mean, covariance = gaussian(features)
        values, vectors = np.linalg.eigh(covariance)
        self._root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
        self._trace = np.trace(covariance)

    def distance(self, features):
        """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features [n, F], n >= 2. The trace of the
        root is that of (R1 C2 R1)^(1/2), R1 R1 = C1, whose eigenvalues are real.
        """
        mean, covariance = gaussian(features)
        mixed = np.linalg.eigvalsh(self._root @ covariance @ self._root).clip(0)
        return float(np.square(self._mean - mean).sum() + self._trace + np.trace(covariance)
                     - 2 * np.sqrt(mixed).sum())


def gaussian(features):
    """Mean [F] and unbiased covariance [F, F]."""
    return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


def require_enough(count):
    if count < 2 * JACKKNIFE_GROUPS:
        raise MetricsError(f"fid: required at least {2 * JACKKNIFE_GROUPS} pictures, got {count}")


def distances(reference, features):
    """FID of all pictures, and without each group of the jackknife."""
    return (reference.distance(features),
            [reference.distance(features[kept]) for kept in jackknife_groups(len(features))])
