# SPDX-License-Identifier: Apache-2.0
"""The Python of docs/diffusers.md and of examples/python, run."""

import os
import pathlib
import re
import runpy
import sys
import tempfile
import unittest
import warnings
from unittest import mock

import torch

import rtlynx
import tiny_models
from test_sparsify import random_compensation

ROOT = pathlib.Path(__file__).parents[2]


class Pipe:
    """What the snippets need of a pipeline."""

    def __init__(self):
        self.transformer = tiny_models.flux()

    def __call__(self, prompt, generator):
        with torch.inference_mode():
            self.transformer(**tiny_models.flux_arguments())


class DocsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder.name)
        model = tiny_models.flux()
        model.save_pretrained("folder")
        compensation = random_compensation(model)
        compensation.metadata["base_revision"] = rtlynx.weights_revision(model)
        compensation.save("compensation.safetensors")

    def test_snippets(self):
        text = (ROOT / "docs" / "diffusers.md").read_text()
        snippets = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        self.assertEqual(len(snippets), 4)
        for snippet in snippets:
            # Each call gets a model of its own, as a reader's would be.
            for part in re.split(r"\n(?=rtlynx\.sparsify)", snippet):
                with self.subTest(part), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    exec(part, {"pipe": Pipe(), "prompts": ["a lynx"], "rtlynx": rtlynx,
                                "torch": torch})

    def test_questions_name_tests_that_exist(self):
        text = (ROOT / "docs" / "diffusers.md").read_text()
        text = text[text.index("\n## Questions"):text.index("\n## diffusers' own")]
        names = re.findall(r"`(test_[\w.]+)`", text)
        self.assertGreater(len(names), 20)
        loader = unittest.TestLoader()
        for name in names:
            with self.subTest(name):
                self.assertGreater(loader.loadTestsFromName(name).countTestCases(), 0)
                self.assertEqual(loader.errors, [])

    def test_examples(self):
        for name in ("diffusers_calibrate.py", "diffusers_sparsify.py", "diffusers_save.py"):
            with self.subTest(name), warnings.catch_warnings(), \
                    mock.patch.object(sys, "argv", [name]):
                warnings.simplefilter("ignore")
                runpy.run_path(str(ROOT / "examples" / "python" / name), run_name="__main__")

    @unittest.skipIf(torch.cuda.is_available(), "the page shows what runs on an H200")
    def test_page_of_reports(self):
        tool = runpy.run_path(str(ROOT / "tools" / "report_page.py"))
        self.assertEqual(tool["PAGE"].read_text(encoding="utf-8"), tool["page"]())

    def test_doctor(self):
        lines = "\n".join(rtlynx.doctor())
        for word in ("torch", "diffusers", "operators", "GPU"):
            self.assertIn(word, lines)


if __name__ == "__main__":
    unittest.main()
