# SPDX-License-Identifier: Apache-2.0
"""rtlynx-evaluate from the prompts to the page, on a tiny pipeline, in this process and by Ray."""

import contextlib
import io
import json
import math
import pathlib
import tempfile
import unittest
from html.parser import HTMLParser
from unittest import mock

import numpy as np
import tiny_pipeline
from PIL import Image

import rtlynx
from rtlynx_evaluate.__main__ import main
from rtlynx_evaluate.painter import Painter
from rtlynx_metrics import read_folders

# Small pictures in few steps.
OPTIONS = ["--size", "40x24", "--call", "num_inference_steps=2", "--call", "max_sequence_length=16",
           "--force"]


class PageParser(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.images, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes)["src"])

    def handle_data(self, data):
        self.text += data


class EvaluateTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        self.model, self.prompts = tiny_pipeline.build(self.folder)
        (self.folder / "calibration.txt").write_text("two foxes\na long road\n")
        self.out = self.folder / "out"

    def evaluate(self, *arguments, out=None, networks=tiny_pipeline.StandIns):
        said, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            try:
                code = main([str(self.model), str(self.prompts), str(out or self.out), *OPTIONS,
                             *map(str, arguments)], networks)
            except SystemExit as stop:
                code = stop.code
        return code, said.getvalue(), errors.getvalue()

    def pixels(self, method, out=None):
        return {path.name: np.asarray(Image.open(path))
                for path in sorted(((out or self.out) / method).glob("*.png"))}

    def scores(self, out=None):
        report = json.loads(((out or self.out) / "scores.json").read_text())
        return {entry["name"]: entry for entry in report["methods"]}

    def test_all_methods_to_the_page(self):
        methods = "naive,norm,paper,ours"
        code, said, errors = self.evaluate(
            "--methods", methods, "--count", 3, "--seeds", 2, "--rank", 8,
            "--calibration-prompts", self.folder / "calibration.txt")
        self.assertEqual(code, 0, errors)
        self.assertRegex(said, r"method +PSNR +SSIM\ndense\nnaive +[\d.]+ \(")
        folders = read_folders([self.out / name for name in ("dense", *methods.split(","))])
        self.assertEqual([len(folder.pictures) for folder in folders], [6] * 5)
        for name, method in (("paper", "low-rank"), ("ours", "joint")):
            made = rtlynx.read_file(self.out / f"{name}.safetensors")
            self.assertEqual(made.metadata["method"], method)
        scores = self.scores()
        for name in methods.split(","):
            self.assertEqual(scores[name]["sparse_layers"], 17 if name == "ours" else 14, name)
            # The same noise: closer to dense than pictures of another seed are to each other.
            apart = self.psnr_of_other_seeds()
            self.assertGreater(scores[name]["psnr"], apart, name)
        self.assertNotIn("psnr", scores["dense"])
        page = PageParser((self.out / "index.html").read_text())
        self.assertEqual(len(page.images), 3 * 5)
        for source in page.images:
            self.assertTrue((self.out / source).is_file(), source)
        self.assertIn("14 of", page.text)
        self.assertFalse(list(self.out.rglob("*.partial")))

    def psnr_of_other_seeds(self):
        found = []
        pictures = self.pixels("dense")
        for name, one in pictures.items():
            if name.endswith("-0.png"):
                other = pictures[name.replace("-0.png", "-1.png")]
                error = np.square(one.astype(float) - other).mean()
                found.append(10 * math.log10(255**2 / error))
        return np.mean(found)

    def test_goes_on_where_it_was_killed(self):
        code, _, errors = self.evaluate("--count", 4)
        self.assertEqual(code, 0, errors)
        whole = {name: self.pixels(name) for name in ("dense", "norm")}
        again, draw, drawn = self.folder / "again", Painter._picture, []

        def killed(painter, prompt, seed):
            if len(drawn) == 6:
                drawn.append(None)
                raise KeyboardInterrupt
            drawn.append(prompt)
            return draw(painter, prompt, seed)

        with mock.patch.object(Painter, "_picture", killed):
            code, _, errors = self.evaluate("--count", 4, out=again)
            self.assertEqual(code, 1)
            self.assertIn("goes on", errors)
            self.assertFalse((again / "scores.json").exists())
            code, _, errors = self.evaluate("--count", 4, out=again)
            self.assertEqual(code, 0, errors)
        self.assertEqual(len(drawn), 9)  # each picture once, and the kill
        for name, pictures in whole.items():
            for file_name, pixels in self.pixels(name, again).items():
                np.testing.assert_array_equal(pixels, pictures[file_name])
        self.assertEqual(self.scores(), self.scores(again))
        with mock.patch.object(Painter, "_picture", lambda *_: self.fail("drew again")):
            code, _, errors = self.evaluate("--count", 4, "--metrics", "ssim", out=again)
        self.assertEqual(code, 0, errors)
        self.assertEqual(self.scores(), self.scores(again))  # the earlier PSNR stays
        code, _, errors = self.evaluate("--count", 4, "--seeds", 2, out=again)
        self.assertEqual(code, 1)
        self.assertIn("required the seeds that it was begun with", errors)

    def test_two_workers_of_ray_do_the_same(self):
        try:
            import ray
        except ImportError as error:
            self.skipTest(f"needs ray: {error}")
        # fid needs 20 pictures, and as many photos of prompts.
        names = {f"p{number:02}": f"cat number {number}" for number in range(20)}
        self.prompts = self.folder / "many.json"
        self.prompts.write_text(json.dumps(names))
        for name in names:
            Image.new("RGB", (24, 24), (len(name), 9, hash(name) % 200)).save(
                self.folder / "photos" / f"{name}.png")
        options = ("--methods", "norm", "--metrics", "fid,psnr,ssim", "--weights", self.folder,
                   "--reference", self.folder / "photos")
        code, said, errors = self.evaluate(*options)
        self.assertEqual(code, 0, errors)
        shared = self.folder / "shared"
        ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
        self.addCleanup(ray.shutdown)
        code, said_by_ray, errors = self.evaluate(*options, "--workers", 2, out=shared)
        self.assertEqual(code, 0, errors)
        self.assertEqual(said_by_ray, said)
        self.assertEqual((shared / "scores.json").read_text(),
                         (self.out / "scores.json").read_text())
        for name in ("dense", "norm"):
            for path in (self.out / name).glob("*.png"):
                self.assertEqual(path.read_bytes(), (shared / name / path.name).read_bytes())
        code, _, errors = self.evaluate(*options, "--workers", 3, out=self.folder / "third")
        self.assertEqual((code, "at most the 2 CPUs" in errors), (1, True), errors)
        broken = self.folder / "broken"
        code, _, errors = self.evaluate("--workers", 1, "--call", "beauty=1", out=broken)
        self.assertEqual(code, 1)
        self.assertIn("arguments of FluxPipeline, got beauty", errors)
        self.assertEqual(len(errors.splitlines()), 2, errors)

    def test_the_other_families(self):
        for build in (tiny_pipeline.build_qwen_image, tiny_pipeline.build_z_image):
            with self.subTest(build.__name__):
                self.model = self.folder / build.__name__
                build(self.model)
                out = self.folder / f"{build.__name__}-out"
                code, _, errors = self.evaluate("--count", 2, "--size", "32x32", out=out)
                self.assertEqual(code, 0, errors)
                self.assertGreater(self.scores(out)["norm"]["sparse_layers"], 0)

    def test_refuses(self):
        for arguments, code, words in (
                (["--metrics", "fid"], 2, "--weights: required for fid"),
                (["--methods", "paper"], 2, "--calibration-prompts: required for paper"),
                (["--methods", "beauty"], 2, "got beauty"), (["--count", "0"], 2, "positive number"),
                (["--call", "height=3"], 2, "another argument than height"),
                (["--call", "beauty=3"], 1, "arguments of FluxPipeline, got beauty"),
                (["--count", "99"], 1, "required 99 prompts, found 8")):
            with self.subTest(arguments):
                found, _, errors = self.evaluate(*arguments)
                self.assertEqual(found, code, errors)
                self.assertIn(words, errors)
        with mock.patch.object(Painter, "_picture", lambda *_: np.zeros((8, 8, 3))), \
                mock.patch("test_evaluate.OPTIONS", OPTIONS[:-1]):
            code, _, errors = self.evaluate(out=self.folder / "other")
        self.assertEqual(code, 1)
        self.assertIn("norm: required a layer that runs sparse, or --force", errors)


if __name__ == "__main__":
    unittest.main()
