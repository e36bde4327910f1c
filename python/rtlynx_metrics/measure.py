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
from .pictures import list_pictures

METRICS = ("fid", "clip-score", "clip-iqa", "image-reward")


class Networks:
    """Where the trained networks come from: the folder of weights. Tests put others in."""

    def __init__(self, weights, device):
        self.device = torch.device(device)
        weights = pathlib.Path(weights).resolve()
        self.inception = functools.partial(CleanInception, weights, self.device)
        # One CLIP for both measures.
        self.clip = functools.cache(functools.partial(load_clip, weights))
        self.image_reward = functools.partial(load_image_reward, weights, self.device)


@contextlib.contextmanager
def silent(label, count):
    yield lambda: None


def picture_metric(name, networks):
    if name == "clip-score":
        return ClipScore(networks.clip, networks.device)
    if name == "clip-iqa":
        return ClipIqa(networks.clip, networks.device)
    return ImageReward(networks.image_reward)


def require_finite(value, what):
    """A score that is no number must not be averaged, compared or written as one."""
    if not np.isfinite(value):
        raise MetricsError(f"{what}: required a finite score, got {value}")
    return value


def add_picture_metric(metric, folders, entries, progress):
    first = None
    for folder, entry in zip(folders, entries):
        with progress(f"{folder.name}: {metric.key}", len(folder.pictures)) as finished:
            values = []
            for picture in folder.pictures:
                values.append(require_finite(metric(picture), f"{metric.key} of {picture.path}"))
                finished()
        entry[metric.key] = max(float(np.mean(values)), metric.least)
        entry[f"{metric.key}_interval"] = [max(bound, metric.least)
                                           for bound in bootstrap_mean(values)]
        if first is None:
            first = np.array(values)
            continue
        change = np.array(values) - first  # picture by picture: the prompts' spread is gone
        entry[f"{metric.key}_change"] = float(change.mean())
        entry[f"{metric.key}_change_interval"] = bootstrap_mean(change)


def add_fid(network, reference, folders, entries, progress):
    def features(label, paths):
        with progress(f"{label}: fid", len(paths)) as finished:
            return picture_features(paths, network, finished)

    target = FrechetReference(features("reference", reference))
    first = None
    for folder, entry in zip(folders, entries):
        paths = [picture.path for picture in folder.pictures]
        whole, left_out = distances(target, features(folder.name, paths))
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


def measure(folders, metrics, networks, reference=None, progress=silent):
    """Measures folders of the same pictures by different methods.

    Args:
        folders: of read_folders; changes are stated against the first.
        metrics: names out of METRICS.
        networks: Networks.
        reference: a folder of real pictures; needed by, and only by, fid.
        progress: called as progress(label, count), gives a context manager of a function to call
            after each picture.

    Returns:
        A dict for JSON: what was measured, and ``methods``, a list of dicts with ``name`` and for
        each metric its value, ``_interval`` (95 %) and, but for the first folder, ``_change`` and
        ``_change_interval``.
    """
    count = len(folders[0].pictures)
    report = {"metrics": list(metrics), "pictures": count}
    entries = [{"name": folder.name} for folder in folders]
    if "fid" in metrics:
        # Said before any work.
        if reference is None:
            raise MetricsError("fid: required a folder of reference pictures, got none")
        real = list_pictures(pathlib.Path(reference))
        for number in (count, len(real)):
            require_enough(number)
    needy = [name for name in metrics if name in ("clip-score", "image-reward")]
    if needy:
        require_prompts(folders, needy[0])
    # All networks are there before the first picture is looked at.
    inception = networks.inception() if "fid" in metrics else None
    others = [picture_metric(name, networks) for name in metrics if name != "fid"]
    if inception is not None:
        report["reference_pictures"] = len(real)
        report["fid_features"] = inception.name
        add_fid(inception, real, folders, entries, progress)
    for metric in others:
        add_picture_metric(metric, folders, entries, progress)
    report["methods"] = entries
    return report
