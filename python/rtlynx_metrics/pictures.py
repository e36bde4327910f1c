# SPDX-License-Identifier: Apache-2.0
"""Folders of pictures as ``rtlynx generate`` leaves them: the prompt is in the PNG's text."""

import dataclasses
import json
import pathlib

import numpy as np
import torch
from PIL import Image

from .errors import MetricsError

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file, and what its text chunks say of it: None where they say nothing."""
    path: pathlib.Path
    prompt: str | None = None
    seed: str | None = None


@dataclasses.dataclass(frozen=True)
class Folder:
    """The pictures of one method, in the order of their names."""
    name: str
    pictures: tuple[Picture, ...]


def list_pictures(folder):
    """The picture files in a folder, sorted by name; MetricsError without any."""
    if not folder.is_dir():
        raise MetricsError(f"{folder}: required a folder of pictures, found none")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise MetricsError(f"{folder}: required pictures ({', '.join(sorted(SUFFIXES))}), "
                           "found none")
    return paths


def read_rgb(path):
    """A picture as uint8 [H, W, 3]."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise MetricsError(f"{path}: required a picture, got: {error}") from error


def read_pixels(path):
    """A picture as a uint8 tensor [3, H, W]."""
    return torch.from_numpy(read_rgb(path).copy()).permute(2, 0, 1)


def read_picture(path):
    try:
        with Image.open(path) as image:
            texts = {key: value for key, value in image.info.items() if isinstance(value, str)}
    except OSError as error:
        raise MetricsError(f"{path}: required a picture, got: {error}") from error
    facts = _facts(texts.get("rtlynx", "{}"))
    if str(facts.get("mode", "")).startswith("dense and "):
        raise MetricsError(f"{path}: required one picture, got the panels of "
                           "rtlynx generate --compare")
    seed = facts.get("seed")
    return Picture(path, facts.get("prompt"), None if seed is None else str(seed))


def _facts(text):
    """What rtlynx generate says of a picture; nothing where another program wrote the chunk."""
    try:
        facts = json.loads(text)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def require_pairs(first, other):
    """The same names, prompts and seeds: every picture beside that of the first folder."""
    names = [[picture.path.name for picture in folder.pictures] for folder in (first, other)]
    if names[0] != names[1]:
        apart = sorted(set(names[0]) ^ set(names[1]))
        raise MetricsError(f"{other.name}: required the file names of {first.name}, "
                           f"got a difference in {len(apart)}, such as {apart[0]}")
    for one, two in zip(first.pictures, other.pictures):
        for what in ("prompt", "seed"):
            wanted, arrived = getattr(one, what), getattr(two, what)
            if wanted != arrived:
                raise MetricsError(f"{two.path}: required the {what} of {one.path}, {wanted!r}, "
                                   f"got {arrived!r}")


def read_folders(paths):
    """Folders of the same pictures by different methods, the reference method first.

    Args:
        paths: one folder per method; its name names the method.

    Returns:
        A list of Folder. MetricsError unless all hold the same file names with the same prompts
        and seeds.
    """
    folders = [Folder(path.resolve().name, tuple(map(read_picture, list_pictures(path))))
               for path in map(pathlib.Path, paths)]
    if len({folder.name for folder in folders}) != len(folders):
        raise MetricsError("required folders with names of their own, got "
                           + ", ".join(folder.name for folder in folders))
    for other in folders[1:]:
        require_pairs(folders[0], other)
    return folders
