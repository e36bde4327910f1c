# SPDX-License-Identifier: Apache-2.0
"""Prompt files in the forms that they come in."""

import json
import pathlib
import random
import tempfile
import unittest

from rtlynx_evaluate.methods import read_methods
from rtlynx_evaluate.prompts import Prompt, read_prompts, reference_pictures
from rtlynx_metrics.errors import MetricsError


class PromptsTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def test_forms(self):
        words = {f"sa_{number}": f"prompt {number}" for number in range(9)}
        json_file = self.write("meta_data.json", json.dumps(
            {name: {"category": "art", "prompt": text} for name, text in words.items()}))
        yaml_file = self.write("sDCI.yaml", "".join(f"{name}: {text}\n"
                                                    for name, text in words.items()))
        wanted = [Prompt(name, text) for name, text in words.items()]
        for path in (json_file, yaml_file):
            self.assertEqual(read_prompts(path), wanted)
            names = list(words)
            random.Random(0).shuffle(names)
            self.assertEqual([prompt.name for prompt in read_prompts(path, 4)], sorted(names[:4]))
        lines = self.write("p.txt", "\ufeffa cat\r\n\n  a dog \n")
        self.assertEqual([(prompt.name, prompt.text) for prompt in read_prompts(lines)],
                         [("00000", "a cat"), ("00001", "a dog")])

    def test_seed_is_the_hash_of_the_name(self):
        # ((31 * 97 + 98) * 31 + 99) mod 1e9+7
        self.assertEqual(Prompt("abc", "").seed(0), (31 * 97 + 98) * 31 + 99)
        self.assertEqual(Prompt("abc", "").seed(2), Prompt("abc", "").seed(0) + 2)
        self.assertLess(Prompt("f" * 40, "").seed(0), 10**9 + 7)

    def test_refuses(self):
        for name, text, words in (("a.json", "[", "JSON"), ("a.json", "[1]", "prompts by name"),
                                  ("a.json", '{"x": {"text": 1}}', "a prompt for x"),
                                  ("a.json", '{"../x": "y"}', "can name a file"),
                                  ("a.yaml", "a: [", "YAML"), ("a.txt", "\n", "found none")):
            with self.subTest(text), self.assertRaisesRegex(MetricsError, words):
                read_prompts(self.write(name, text))
        with self.assertRaisesRegex(MetricsError, "required 3 prompts, found 1"):
            read_prompts(self.write("a.txt", "a"), 3)
        with self.assertRaisesRegex(MetricsError, "a prompt file"):
            read_prompts(self.folder / "none.txt")

    def test_references_are_those_of_the_prompts(self):
        paths = [pathlib.Path(name) for name in ("x/b.jpg", "x/c.jpg", "y/a.jpg")]
        found = reference_pictures(".", [Prompt("a", ""), Prompt("b", "")], lambda _: paths)
        self.assertEqual([path.stem for path in found], ["a", "b"])
        with self.assertRaisesRegex(MetricsError, "found none of 1, such as z"):
            reference_pictures(".", [Prompt("z", "")], lambda _: paths)
        self.assertEqual(reference_pictures(".", [Prompt("00000", "", True)], lambda _: paths), paths)

    def test_methods(self):
        file = self.write("best.safetensors", "")
        found = read_methods(["norm", "dense", "paper", str(file)], self.folder)
        self.assertEqual([method.name for method in found], ["dense", "norm", "paper", "best"])
        self.assertEqual(found[2].compensation, self.folder / "paper.safetensors")
        own = self.write("dense.safetensors", "")
        for texts, words in (([str(own)], "another name than a method's"),
                             (["norm", "norm"], "got norm twice"),
                             (["no.safetensors"], "found none")):
            with self.subTest(texts), self.assertRaisesRegex(MetricsError, words):
                read_methods(texts, self.folder)


if __name__ == "__main__":
    unittest.main()
