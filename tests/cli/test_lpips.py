# SPDX-License-Identifier: Apache-2.0
"""From the weights of the Python packages to LPIPS in an evaluation. Needs torch and safetensors."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import small_models
import torch
from safetensors import safe_open

BINARY = os.environ["RTLYNX_BINARY"]
CONVERTER = pathlib.Path(__file__).resolve().parents[2] / "tools" / "convert_lpips.py"
# AlexNet's convolutions, by their places in torchvision's `features`.
SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3),
          10: (256, 256, 3, 3)}


class LpipsTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        generator = torch.Generator().manual_seed(0)

        def random(*shape):
            return torch.randn(shape, generator=generator)

        self.backbone = {f"features.{place}.weight": random(*shape) / shape[1] ** 0.5
                         for place, shape in SHAPES.items()}
        self.backbone |= {f"features.{place}.bias": random(shape[0])
                          for place, shape in SHAPES.items()}
        self.backbone["classifier.1.weight"] = random(2, 2)
        self.heads = {f"lin{index}.model.1.weight": random(1, shape[0], 1, 1).abs()
                      for index, shape in enumerate(SHAPES.values())}

    def convert(self, **options):
        torch.save(self.backbone, self.folder / "backbone.pth")
        torch.save(self.heads, self.folder / "heads.pth")
        paths = {"backbone": self.folder / "backbone.pth", "heads": self.folder / "heads.pth",
                 "output": self.folder / "lpips.safetensors", **options}
        arguments = [part for name, value in paths.items() for part in (f"--{name}", str(value))]
        return subprocess.run([sys.executable, "-B", CONVERTER, *arguments], capture_output=True,
                              text=True, timeout=600)

    def test_converted_weights_measure(self):
        result = self.convert()
        self.assertEqual(result.returncode, 0, result.stderr)
        with safe_open(self.folder / "lpips.safetensors", "pt") as file:
            self.assertTrue(file.get_tensor("conv.1.bias").equal(self.backbone["features.3.bias"]))
            self.assertTrue(file.get_tensor("linear.2").equal(
                self.heads["lin2.model.1.weight"].flatten()))
        command = [BINARY, "evaluate", "--prompts", "2", "--velocity-prompts", "0", "--steps", "2",
                   "--device", "cpu", "--methods", "norm", "--lpips",
                   str(self.folder / "lpips.safetensors")]
        result = subprocess.run([*command, "-o", str(self.folder / "metrics.json")],
                                capture_output=True, text=True, timeout=600)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"PSNR +SSIM +LPIPS +detail")
        report = json.loads((self.folder / "metrics.json").read_text())
        self.assertEqual(report["lpips_network"], "alex")
        dense, norm = report["methods"]
        self.assertEqual(dense["lpips"], 0)
        low, high = norm["lpips_interval"]
        self.assertTrue(0 < low <= norm["lpips"] <= high)

    def test_models_of_diffusers_are_measured(self):
        self.convert()
        small_models.make("pipeline_flux_dev", self.folder / "model")
        (self.folder / "prompts.txt").write_text("a red cat\na dog\n")
        command = [BINARY, "evaluate", "--model", "model", "--prompts-file", "prompts.txt",
                   "--steps", "2", "--device", "cpu", "--methods", "norm", "--size", "40x32",
                   "--lpips", "lpips.safetensors", "--json"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600,
                                cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(report["lpips_network"], "alex")
        dense, norm = report["methods"]
        self.assertEqual(dense["lpips"], 0)
        low, high = norm["lpips_interval"]
        self.assertTrue(0 < low <= norm["lpips"] <= high)

    def test_what_is_missing_is_named(self):
        result = self.convert(network="vgg")
        self.assertEqual(result.returncode, 1)
        self.assertIn("required a tensor features.2.weight", result.stderr)
        del self.heads["lin3.model.1.weight"]
        self.assertIn("required a tensor lin3.model.1.weight", self.convert().stderr)
        result = self.convert(heads=self.folder / "none.pth")
        self.assertEqual(result.returncode, 1)
        self.assertIn("none.pth: required a state dict", result.stderr)
        self.assertFalse((self.folder / "lpips.safetensors").exists())

    def test_weights_are_not_converted_over_themselves(self):
        for name in ("backbone.pth", "heads.pth"):
            result = self.convert(output=self.folder / name)
            self.assertEqual(result.returncode, 2)
            self.assertIn("--output", result.stderr)
            self.assertIn("features.0.weight", torch.load(self.folder / "backbone.pth"))
            self.assertIn("lin0.model.1.weight", torch.load(self.folder / "heads.pth"))

    def test_other_files_are_refused(self):
        other = self.folder / "other"
        other.write_text("no weights")
        result = subprocess.run([BINARY, "evaluate", "--lpips", str(other)], capture_output=True,
                                text=True, timeout=600)
        self.assertEqual(result.returncode, 1)
        self.assertIn(str(other), result.stderr)


if __name__ == "__main__":
    unittest.main()
