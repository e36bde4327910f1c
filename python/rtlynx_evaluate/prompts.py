# SPDX-License-Identifier: Apache-2.0
"""Prompt files: MJHQ-30K's, sDCI's and plain text; which of them are drawn, and by which seeds."""

import json
import pathlib
import random
import re
from dataclasses import dataclass

from rtlynx_metrics.errors import MetricsError, import_extra

_SEED_MODULUS = 10**9 + 7


@dataclass(frozen=True)
class Prompt:
    """``name`` names the pictures, and, but for a line of text, the real picture that it describes."""

    name: str
    text: str
    is_line: bool = False

    def seed(self, number):
        """SVDQuant's: a hash of the name; further pictures of a prompt have those that follow."""
        value = 0
        for letter in self.name:
            value = (31 * value + ord(letter)) % _SEED_MODULUS
        return value + number

    def file_name(self, number):
        return f"{self.name}-{number}.png"


def read_prompts(path, count=None):
    """The prompts to draw.

    Args:
        path: ``.json``, MJHQ-30K's meta_data.json: names of objects with a prompt; ``.yaml``, sDCI's:
            names of prompts; anything else: a prompt a line.
        count: how many, None for all. Of names, those of SVDQuant's protocol: shuffled by a fixed
            seed, the first taken, sorted. Of lines, the first.

    Returns:
        A list of Prompt. MetricsError for any other content.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise MetricsError(f"{path}: required a prompt file, got: {error}") from error
    is_text = path.suffix.lower() not in (".json", ".yaml", ".yml")
    if is_text:
        lines = filter(None, map(str.strip, text.splitlines()))
        found = {f"{number:05}": line for number, line in enumerate(lines)}
    else:
        found = _named(path, _parsed(path, text))
    if not found:
        raise MetricsError(f"{path}: required prompts, found none")
    names = list(found)
    if count is not None and count > len(names):
        raise MetricsError(f"{path}: required {count} prompts, found {len(names)}")
    if count is not None and not is_text:
        random.Random(0).shuffle(names)
        names = sorted(names[:count])
    return [Prompt(name, found[name], is_text) for name in names[:count]]


def _parsed(path, text):
    if path.suffix.lower() == ".json":
        try:
            return json.loads(text)
        except ValueError as error:
            raise MetricsError(f"{path}: required JSON, got: {error}") from error
    yaml = import_extra("yaml", "evaluate")
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise MetricsError(f"{path}: required YAML, got: {str(error).splitlines()[0]}") from error


def _named(path, content):
    if not isinstance(content, dict):
        raise MetricsError(f"{path}: required prompts by name, got {type(content).__name__}")
    found = {}
    for name, entry in content.items():
        text = entry.get("prompt") if isinstance(entry, dict) else entry
        if not isinstance(text, str):
            raise MetricsError(f"{path}: required a prompt for {name}, got {text!r}")
        if not re.fullmatch(r"[\w. -]+", str(name)) or str(name).startswith("."):
            raise MetricsError(f"{path}: required names that can name a file, got {name!r}")
        found[str(name)] = text
    return found


def reference_pictures(folder, prompts, list_files):
    """The real pictures of prompts that have names, wherever they lie in a folder; of lines of text,
    all pictures in it.

    Args:
        list_files: gives the pictures in a folder and below.
    """
    paths = list_files(pathlib.Path(folder))
    if prompts[0].is_line:
        return paths
    by_name = {path.stem: path for path in paths}
    missing = [prompt.name for prompt in prompts if prompt.name not in by_name]
    if missing:
        raise MetricsError(f"{folder}: required a picture of every prompt, found none of "
                           f"{len(missing)}, such as {missing[0]}")
    return [by_name[prompt.name] for prompt in prompts]
