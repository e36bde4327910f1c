# SPDX-License-Identifier: Apache-2.0
"""Includes between the folders of src/ follow the arrows of docs/architecture.md, one way."""

import pathlib
import re
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "src"
SUFFIXES = {".h", ".cpp", ".cuh", ".cu"}

# What a folder may include besides itself and include/. Folders that are divided count by part.
MAY_INCLUDE = {
    "base": [],
    "io": ["base"],
    "options": ["base", "io"],
    "metrics": ["base"],
    "mini/scenes": ["base", "metrics"],
    "plot": ["base"],
    "kernels": ["base"],
    "kernels/spec": ["base"],
    "kernels/device": [],
    "kernels/plain": ["kernels/device"],
    "kernels/pack": ["base", "kernels", "kernels/device", "kernels/spec"],
    "kernels/gemm": ["base", "kernels", "kernels/device", "kernels/spec"],
    "kernels/rows": ["base", "kernels", "kernels/device", "kernels/spec"],
    "ops": ["base", "kernels", "kernels/gemm", "kernels/plain", "kernels/spec"],
    "layers": ["base", "ops"],
    "models": ["base", "io", "layers"],
    "models/flux": ["base", "io", "layers", "models"],
    "models/qwen_image": ["base", "io", "layers", "models"],
    "models/z_image": ["base", "io", "layers", "models"],
    "models/tokenizers": ["base", "io"],
    "models/text": ["base", "io", "models", "models/tokenizers"],
    "models/vae": ["base", "io", "models"],
    "models/checkpoint": ["base", "io", "layers", "models", "models/tokenizers"],
    "models/text_to_image": ["base", "io", "layers", "models", "models/checkpoint", "models/flux",
                             "models/qwen_image", "models/text", "models/tokenizers",
                             "models/vae", "models/z_image"],
    "models/blockwise": ["base", "io", "models", "models/flux", "models/qwen_image",
                         "models/text_to_image", "models/z_image"],
    "compensate": ["base", "io", "layers", "models", "ops"],
    "pipeline": ["base", "io", "models", "models/text_to_image", "models/vae"],
    "mini": ["base", "io", "layers", "mini/scenes", "models", "models/flux",
             "models/text_to_image", "pipeline"],
    "study": ["base", "compensate", "io", "kernels/gemm", "layers", "metrics", "mini", "mini/scenes",
              "models", "models/blockwise", "models/text_to_image", "ops", "pipeline", "plot"],
    "benchmark": ["base", "io", "kernels/gemm", "models", "models/flux", "models/qwen_image",
                  "models/z_image", "options", "plot"],
    "step_benchmark": ["base", "benchmark", "io", "layers", "models", "models/flux",
                       "models/qwen_image", "models/z_image"],
    "cli": ["base", "benchmark", "compensate", "io", "kernels/gemm", "layers", "metrics", "mini",
            "models", "models/blockwise", "models/checkpoint", "models/text_to_image", "options",
            "pipeline", "plot", "step_benchmark", "study"],
}


def part_of(path):
    """The folder, or part of a divided one, that a path relative to src/ belongs to."""
    parts = path.parts
    divided = parts[0] in ("kernels", "mini", "models") and len(parts) > 2
    return "/".join(parts[:2]) if divided else parts[0]


def wrong_includes(source):
    """Each include that goes against the arrows, as "file: header"."""
    found = []
    for file in sorted(source.rglob("*")):
        if file.suffix not in SUFFIXES:
            continue
        own = part_of(file.relative_to(source))
        for header in re.findall(r'^\s*#\s*include "([^"]+)"', file.read_text(), re.MULTILINE):
            if header.startswith("rtlynx/"):
                continue
            other = part_of(pathlib.Path(header))
            if other != own and other not in MAY_INCLUDE.get(own, []):
                found.append(f"{file.relative_to(source)}: {header}")
    return found


class ArrowsTest(unittest.TestCase):
    def test_includes_follow_the_arrows(self):
        self.assertEqual(wrong_includes(SOURCE), [])

    def test_every_folder_has_its_arrows(self):
        parts = {part_of(file.relative_to(SOURCE)) for file in SOURCE.rglob("*")
                 if file.suffix in SUFFIXES}
        self.assertEqual(parts, set(MAY_INCLUDE))

    def test_arrows_go_one_way(self):
        below = {part: set(others) for part, others in MAY_INCLUDE.items()}
        while True:
            lowest = {part for part, others in below.items() if not others}
            if not lowest:
                break
            below = {part: others - lowest for part, others in below.items() if part not in lowest}
        self.assertEqual(below, {})

    def test_a_planted_include_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder)
            (source / "layers").mkdir()
            (source / "layers" / "a.h").write_text('#include "base/error.h"\n'
                                                   '#include "models/recipe.h"\n')
            self.assertEqual(wrong_includes(source), ["layers/a.h: models/recipe.h"])


if __name__ == "__main__":
    unittest.main()
