# SPDX-License-Identifier: Apache-2.0
"""All measures of all folders, as one report."""

import contextlib
import functools
import pathlib

import numpy as np
import torch

from .clip import ClipIqa, ClipScore, load_clip
from .errors import MetricsError
from .fid import CleanInception, FrechetReference, distances, picture_features, require_enough
from .image_reward import ImageReward, load_image_reward
from .intervals import bootstrap_mean, jackknife_interval
from .paired import Lpips, Psnr, Ssim
from .pictures import Picture, list_pictures

PICTURE_METRICS = {"clip-score": ClipScore, "clip-iqa": ClipIqa, "image-reward": ImageReward}
PAIRED_METRICS = {"lpips": Lpips, "psnr": Psnr, "ssim": Ssim}
METRICS = ("fid", *PICTURE_METRICS, *PAIRED_METRICS)
WITHOUT_WEIGHTS = ("psnr", "ssim")


class Networks:
    """Where the trained networks come from: the folder of weights. Tests put others in."""

    def __init__(self, weights, device):
        self.device = torch.device(device)
        # Those of WITHOUT_WEIGHTS need no folder.
        weights = pathlib.Path(weights or ".").resolve()
        self.inception = functools.partial(CleanInception, weights, self.device)
        # One CLIP for both measures.
        self.clip = functools.cache(functools.partial(load_clip, weights))
        self.image_reward = functools.partial(load_image_reward, weights, self.device)
        self.lpips = functools.partial(Lpips, weights, self.device)


class Scorer:
    """What the networks say of pictures. They are all there before the first picture is looked at."""

    def __init__(self, metrics, networks):
        make = {"fid": networks.inception,
                "clip-score": lambda: ClipScore(networks.clip, networks.device),
                "clip-iqa": lambda: ClipIqa(networks.clip, networks.device),
                "image-reward": lambda: ImageReward(networks.image_reward),
                "lpips": networks.lpips,
                "psnr": lambda: Psnr(networks.device), "ssim": lambda: Ssim(networks.device)}
        self._metrics = {name: make[name]() for name in metrics}

    def fid_features(self):
        """The name of the features of "fid"."""
        return self._metrics["fid"].name

    def values(self, name, pictures, partners=()):
        """Yields, one after the other, the value of each picture: for "fid" its features [F]; for
        the paired metrics, of it and its partner."""
        metric = self._metrics[name]
        if name == "fid":
            yield from picture_features([picture.path for picture in pictures], metric)
        elif name in PAIRED_METRICS:
            yield from map(metric, pictures, partners)
        else:
            yield from map(metric, pictures)


@contextlib.contextmanager
def silent(label, count):
    yield lambda: None


def require_finite(value, what):
    """A score that is no number must not be averaged, compared or written as one."""
    if not np.isfinite(value):
        raise MetricsError(f"{what}: required a finite score, got {value}")
    return value


def add_mean(kind, entry, values):
    entry[kind.key] = max(float(np.mean(values)), kind.least)
    entry[f"{kind.key}_interval"] = [max(bound, kind.least) for bound in bootstrap_mean(values)]


def scores(kind, folder, values, progress):
    """The values of a folder's pictures, [n]."""
    found = []
    with progress(f"{folder.name}: {kind.key}", len(folder.pictures)) as finished:
        for picture, value in zip(folder.pictures, values):
            found.append(require_finite(value, f"{kind.key} of {picture.path}"))
            finished()
    return np.array(found)


def add_picture_metric(kind, values_of, folders, entries, progress):
    """`values_of` a tuple of pictures gives their values."""
    first = None
    for folder, entry in zip(folders, entries):
        values = scores(kind, folder, values_of(folder.pictures), progress)
        add_mean(kind, entry, values)
        if first is None:
            first = values
            continue
        change = values - first  # picture by picture: the prompts' spread is gone
        entry[f"{kind.key}_change"] = float(change.mean())
        entry[f"{kind.key}_change_interval"] = bootstrap_mean(change)


def add_paired_metric(kind, values_of, folders, entries, progress):
    """`values_of` two tuples of pictures gives their values, pair by pair."""
    for folder, entry in list(zip(folders, entries))[1:]:
        pairs = values_of(folder.pictures, folders[0].pictures)
        add_mean(kind, entry, scores(kind, folder, pairs, progress))


def add_fid(features_of, reference, folders, entries, progress):
    def features(label, pictures):
        rows = []
        with progress(f"{label}: fid", len(pictures)) as finished:
            for row in features_of(pictures):
                rows.append(row)
                finished()
        return np.stack(rows)

    target = FrechetReference(features("reference", reference))
    first = None
    for folder, entry in zip(folders, entries):
        whole, left_out = distances(target, features(folder.name, folder.pictures))
        for value in (whole, *left_out):
            require_finite(value, f"fid of {folder.name}")
        entry["fid"] = whole
        entry["fid_interval"] = jackknife_interval(whole, left_out)
        if first is None:
            first = whole, np.array(left_out)
            continue
        change = whole - first[0]
        entry["fid_change"] = change
        entry["fid_change_interval"] = jackknife_interval(change, np.array(left_out) - first[1])


def require_prompts(folders, name):
    for folder in folders:
        for picture in folder.pictures:
            if picture.prompt is None:
                raise MetricsError(f"{name}: required a prompt in the text of {picture.path}, as "
                                   "rtlynx generate writes it, found none")


def check(folders, metrics, reference):
    """Says what is missing before any work. Returns the reference pictures, if they are needed."""
    needy = [name for name in metrics if name in ("clip-score", "image-reward")]
    if needy:
        require_prompts(folders, needy[0])
    paired = [name for name in metrics if name in PAIRED_METRICS]
    if paired and len(folders) < 2:
        raise MetricsError(f"{paired[0]}: required a folder to compare with the first, got none")
    if "fid" not in metrics:
        return None
    if reference is None:
        raise MetricsError("fid: required a folder of reference pictures, got none")
    real = [Picture(path) for path in reference] if isinstance(reference, (list, tuple)) else \
        [Picture(path) for path in list_pictures(pathlib.Path(reference))]
    for number in (len(folders[0].pictures), len(real)):
        require_enough(number)
    return real


def measure(folders, metrics, networks, reference=None, progress=silent, make_scorer=Scorer):
    """Measures folders of the same pictures by different methods.

    Args:
        folders: of read_folders; changes are stated against the first, and what is paired is paired
            with it.
        metrics: names out of METRICS.
        networks: Networks.
        reference: real pictures, a folder or a list of paths; needed by, and only by, fid.
        progress: called as progress(label, count), gives a context manager of a function to call
            after each picture.
        make_scorer: Scorer, or what does the same elsewhere.

    Returns:
        A dict for JSON: what was measured, and ``methods``, a list of dicts with ``name`` and for
        each metric its value, ``_interval`` (95 %) and, but for the first folder, ``_change`` and
        ``_change_interval``. Paired metrics have no change, and no value for the first folder.
    """
    report = {"metrics": list(metrics), "pictures": len(folders[0].pictures)}
    entries = [{"name": folder.name} for folder in folders]
    real = check(folders, metrics, reference)
    scorer = make_scorer(metrics, networks)
    for name in metrics:
        values_of = functools.partial(scorer.values, name)
        if name == "fid":
            report["reference_pictures"] = len(real)
            report["fid_features"] = scorer.fid_features()
            add_fid(values_of, real, folders, entries, progress)
        elif name in PAIRED_METRICS:
            add_paired_metric(PAIRED_METRICS[name], values_of, folders, entries, progress)
        else:
            add_picture_metric(PICTURE_METRICS[name], values_of, folders, entries, progress)
    report["methods"] = entries
    return report
