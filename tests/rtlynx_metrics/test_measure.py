# SPDX-License-Identifier: Apache-2.0
"""Reports and the command line."""

import contextlib
import io
import json
import os
import pathlib
import sys
import tomllib
import unittest

import numpy as np
import torch
from stand_ins import MetricsTest, StandIns, tiny_clip

from rtlynx_metrics import measure, read_folders
from rtlynx_metrics.__main__ import main
from rtlynx_metrics.clip import ClipScore
from rtlynx_metrics.errors import MetricsError
from rtlynx_metrics.measure import METRICS, PAIRED_METRICS, add_picture_metric, silent


class MeasureTest(MetricsTest):
    def setUp(self):
        super().setUp()
        tiny_clip(self.folder / "clip-vit-large-patch14")
        self.networks = StandIns(self.folder)
        self.reference = self.draw("reference", 30, seed=7, prompt=None)
        self.dense, self.sparse = self.draw("dense"), self.draw("sparse", brighter=50)

    def measure(self, *folders, metrics=METRICS):
        return measure(read_folders(folders), metrics, self.networks, self.reference)

    def test_what_is_missing_from_a_pair_is_said(self):
        self.assert_refused(["psnr", "the first"], self.measure, self.dense, metrics=["psnr"])

    def test_every_measure_of_every_folder(self):
        report = self.measure(self.dense, self.sparse)
        json.dumps(report, allow_nan=False)
        self.assertEqual((report["pictures"], report["reference_pictures"]), (20, 30))
        self.assertEqual(report["fid_features"], "mean colours")
        dense, sparse = report["methods"]
        self.assertEqual((dense["name"], sparse["name"]), ("dense", "sparse"))
        for key in PAIRED_METRICS:
            self.assertNotIn(key, dense)
            low, high = sparse[f"{key}_interval"]
            self.assertTrue(low <= sparse[key] <= high, key)
        for key in ("fid", "clip_score", "clip_iqa", "image_reward"):
            for method, suffixes in ((dense, ("",)), (sparse, ("", "_change"))):
                for suffix in suffixes:
                    low, high = method[f"{key}{suffix}_interval"]
                    self.assertTrue(low <= method[key + suffix] <= high, (key, suffix))
            self.assertNotIn(f"{key}_change", dense)
            if key != "clip_score":
                self.assertAlmostEqual(sparse[f"{key}_change"], sparse[key] - dense[key])

    def test_scores_that_are_no_numbers_are_named(self):
        with self.assertRaisesRegex(MetricsError, "clip_score of .*png: required a finite score"):
            add_picture_metric(ClipScore, lambda pictures: [float("nan")] * len(pictures),
                               read_folders([self.dense]), [{}], silent)

    def test_an_output_is_never_an_input(self):
        picture = next(self.dense.glob("*.png"))
        content = picture.read_bytes()
        for output in (picture, self.folder / "clip-vit-large-patch14" / "config.json", self.dense):
            with self.assertRaises(SystemExit) as refused, contextlib.redirect_stderr(io.StringIO()):
                main([str(self.dense), "--metrics", "clip-score", "--weights", str(self.folder), "-o",
                      str(output)], self.networks)
            self.assertEqual(refused.exception.code, 2)
        self.assertEqual(picture.read_bytes(), content)

    def test_only_the_mean_of_clip_scores_is_clamped(self):
        values = iter([-3.0, 1.0] * 10 + [-1.0, 3.0] * 10)
        entries = [{}, {}]
        add_picture_metric(ClipScore, lambda pictures: [next(values) for _ in pictures],
                           read_folders([self.dense, self.sparse]), entries, silent)
        self.assertEqual((entries[0]["clip_score"], entries[1]["clip_score"]), (0, 1))
        self.assertEqual(entries[1]["clip_score_change"], 2)

    def test_the_figures_are_those_of_the_networks(self):
        dense, sparse = self.measure(self.dense, self.sparse)["methods"]
        # 50 of 255 brighter in every picture; the same distance in each of three colours.
        self.assertAlmostEqual(sparse["image_reward_change"], 50 / 255)
        np.testing.assert_allclose(sparse["image_reward_change_interval"], 50 / 255)
        self.assertAlmostEqual(sparse["fid_change"], 3 * 50**2, delta=1000)
        self.assertLess(dense["fid"], 100)

    def test_the_same_pictures_do_not_change(self):
        again = self.folder / "again"
        again.mkdir()
        for path in self.dense.iterdir():
            (again / path.name).write_bytes(path.read_bytes())
        _, second = self.measure(self.dense, again)["methods"]
        for key in ("fid", "clip_score", "clip_iqa", "image_reward"):
            self.assertEqual(second[f"{key}_change"], 0)
            self.assertEqual(tuple(second[f"{key}_change_interval"]), (0, 0))

    def test_what_is_missing_is_said_before_any_work(self):
        self.networks.clip = self.networks.inception = lambda: self.fail("worked")
        without = self.draw("without", prompt=None)
        self.assert_refused(["clip-score", "a prompt", "x-0000.png"], self.measure, without)
        few = self.draw("few", 19)
        self.assert_refused(["fid", "at least 20", "19"], self.measure, few, metrics=["fid"])
        self.assert_refused(["reference"], measure, read_folders([self.dense]), ["fid"],
                            self.networks)


class CommandTest(MetricsTest):
    def run_main(self, *arguments, networks=None):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([str(argument) for argument in arguments], networks)
            except SystemExit as stop:
                code = stop.code
        return code, out.getvalue(), err.getvalue()

    def test_table_and_file(self):
        tiny_clip(self.folder / "clip-vit-large-patch14")
        dense, sparse = self.draw("dense"), self.draw("sparse", brighter=50)
        output = self.folder / "metrics.json"
        code, out, err = self.run_main(
            dense, sparse, "--metrics", ",".join(METRICS), "--reference", dense, "--weights",
            self.folder, "-o", output, networks=StandIns(self.folder))
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"method +FID +CLIP-Score +CLIP-IQA +ImageReward +LPIPS +PSNR +SSIM\n")
        self.assertRegex(out, r"\n  against the first +[\d.]+ \(")
        report = json.loads(output.read_text())
        self.assertEqual([method["name"] for method in report["methods"]], ["dense", "sparse"])
        code, out, _ = self.run_main(dense, "--metrics", "clip-iqa", "--weights", self.folder,
                                     "--json", networks=StandIns(self.folder))
        self.assertEqual(code, 0)
        self.assertEqual(json.loads(out)["metrics"], ["clip-iqa"])
        self.assertFalse(list(self.folder.glob("*.partial")))

    def test_missing_weights_say_what_to_fetch(self):
        dense, other = self.draw("dense"), self.draw("other")
        for metric, words in (("fid", ["inception-2015-12-05.pt", "stylegan2-ada-pytorch"]),
                              ("clip-score", ["clip-vit-large-patch14", "openai/"]),
                              ("clip-iqa", ["clip-vit-large-patch14"]),
                              ("lpips", ["alexnet-owt-7be5be79.pth", "torchvision"]),
                              ("image-reward", ["ImageReward.pt", "THUDM/ImageReward"])):
            output = self.folder / "metrics.json"
            code, out, err = self.run_main(dense, other, "--metrics", metric, "--reference", dense,
                                           "--weights", self.folder, "-o", output)
            self.assertEqual((code, out), (1, ""), metric)
            self.assertEqual(len(err.splitlines()), 1, err)
            for word in ("fetch", str(self.folder), *words):
                self.assertIn(word, err)
            self.assertFalse(output.exists())

    def test_a_missing_package_names_its_extra(self):
        (self.folder / "ImageReward").mkdir()
        for path in ("ImageReward/med_config.json", "bert-base-uncased"):
            (self.folder / path).touch()
        torch.save({"mlp.layers.0.weight": torch.zeros(1)},
                   self.folder / "ImageReward" / "ImageReward.pt")
        sys.modules["ImageReward"] = None  # as if it were not installed
        self.addCleanup(sys.modules.pop, "ImageReward")
        code, _, err = self.run_main(self.draw("dense"), "--metrics", "image-reward", "--weights",
                                     self.folder)
        self.assertEqual(code, 1)
        self.assertEqual(len(err.splitlines()), 1, err)
        self.assertIn("pip install 'rtlynx[image-reward]'", err)

    def test_bad_usage_is_exit_code_2(self):
        dense = self.draw("dense", 1)
        for arguments in ([], [dense], [dense, "--weights", "w"], [dense, "--metrics", "clip-iqa"],
                          [dense, "--weights", "w", "--metrics", "beauty"],
                          [dense, "--weights", "w", "--metrics", "clip-iqa", "-o",
                           self.folder / "no" / "m.json"]):
            self.assertEqual(self.run_main(*arguments)[0], 2, arguments)
        code, out, _ = self.run_main("--help")
        self.assertEqual(code, 0)
        self.assertIn("examples:", out)

    def test_the_package_has_the_version_of_the_project(self):
        path = pathlib.Path(__file__).resolve().parents[2] / "python" / "pyproject.toml"
        project = tomllib.loads(path.read_text())["project"]
        self.assertEqual(project["version"], os.environ["RTLYNX_VERSION"])
        self.assertLessEqual({"metrics", "image-reward"}, set(project["optional-dependencies"]))


if __name__ == "__main__":
    unittest.main()
