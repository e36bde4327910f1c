# SPDX-License-Identifier: Apache-2.0
"""The compensation files that lynx-mini ships: taken unless an option says otherwise, and said.
Standard library only."""

import json
import pathlib
import unittest

from cli_case import CliTest, made_by, png_size, run
from test_real_models import image_data
from tiny_model import PROMPT, QUICK, copy_of, set_values

MINI = pathlib.Path(__file__).parents[2] / "models" / "lynx-mini"
OWN, PAPER = MINI / "compensation.safetensors", MINI / "paper.safetensors"
OURS = "joint (transform block 64, rank 16)"


class OwnCompensationTest(CliTest):
    def draw(self, name, *arguments, steps=2):
        result = run("generate", *PROMPT, "--steps", steps, "--device", "cpu", "--model", MINI,
                     "--json", *arguments, "-o", self.folder / name)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result, json.loads(result.stdout)

    def test_it_is_small(self):
        self.assertLess(OWN.stat().st_size + PAPER.stat().st_size, 20e6)

    def test_it_is_taken_and_said(self):
        result, report = self.draw("own.png")
        for word in ("the model's own", str(OWN), OURS, "--compensation none"):
            self.assertIn(word, result.stderr)
        self.assertEqual((report["mode"], report["compensation"]), (OURS, str(OWN)))
        made = made_by(self.folder / "own.png")
        self.assertEqual((made["mode"], made["compensation"]), (OURS, OWN.name))

    def test_none_and_a_mode_leave_it_out(self):
        self.draw("own.png")
        for name, arguments in (("none.png", ["--compensation", "none"]),
                                ("norm.png", ["--mode", "norm"])):
            result, report = self.draw(name, *arguments)
            self.assertEqual(result.stderr, "")
            self.assertEqual(report["mode"], "norm")
            self.assertNotIn("compensation", report)
            self.assertNotIn("compensation", made_by(self.folder / name))
        self.assertEqual(image_data(self.folder / "none.png"), image_data(self.folder / "norm.png"))
        self.assertNotEqual(image_data(self.folder / "none.png"),
                            image_data(self.folder / "own.png"))

    def test_it_comes_closer_than_the_papers_and_than_none(self):
        _, report = self.draw("four.png", "--compare", "--beside", PAPER, "--scale", 1,
                              steps=8)
        self.assertEqual(report["beside"], "low-rank (transform none, rank 16)")
        image = report["images"][0]
        self.assertGreater(image["psnr"], image["beside"]["psnr"] + 2)
        self.assertEqual(png_size(self.folder / "four.png"), (4 * 64 + 3 * 2, 64))
        self.assertEqual(made_by(self.folder / "four.png")["beside"], PAPER.name)
        _, plain = self.draw("three.png", "--compare", "--compensation", "none", "--scale", 1,
                             steps=8)
        self.assertGreater(image["psnr"], plain["images"][0]["psnr"] + 2)
        self.assertEqual(png_size(self.folder / "three.png"), (3 * 64 + 2 * 2, 64))

    def test_a_damaged_or_foreign_one_is_refused(self):
        model = copy_of(MINI, self.folder / "model")
        own = model / OWN.name

        def refused(*words):
            result = run("generate", *PROMPT, *QUICK, "--model", model, "-o", self.folder / "a.png")
            self.assert_refused(result, 1, str(own), *words)
            self.assertEqual(self.files(), ["model"])

        whole = own.read_bytes()
        own.write_bytes(whole[:-1])
        refused("required")
        own.write_bytes(whole)
        weights = model / "transformer" / "diffusion_pytorch_model-00001-of-00002.safetensors"
        set_values(weights, "transformer_blocks.0.attn.to_q.bias", 0)
        refused("the weights that it was made for", "--compensation none")
        result = run("generate", *PROMPT, *QUICK, "--model", model, "--compensation", "none", "-o",
                     self.folder / "a.png")
        self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    unittest.main()
