# SPDX-License-Identifier: Apache-2.0
"""LPIPS, PSNR and SSIM of pairs: their definitions, and the package lpips."""

import json
import math
import pathlib
import unittest

import numpy as np
import torch
from PIL import Image
from stand_ins import MetricsTest

from rtlynx_metrics.paired import BACKBONE, Lpips, Psnr, Ssim
from rtlynx_metrics.pictures import Picture

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "goldens" / "lpips.json"


def fractions(stream, count):
    """As in tools/make_lpips_goldens.py."""
    with np.errstate(over="ignore"):
        z = np.arange(count, dtype=np.uint64) + np.uint64(stream << 32)
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-24


def drawn(stream, tensor, low, high):
    values = low + (high - low) * fractions(stream, tensor.numel())
    return torch.from_numpy(values.astype(np.float32)).reshape(tensor.shape)


class PairedTest(MetricsTest):
    def save(self, name, pixels):
        Image.fromarray(pixels).save(self.folder / name)
        return Picture(self.folder / name)

    def pair(self, side=16):
        generator = np.random.default_rng(0)
        one = generator.integers(10, 200, size=(side, side, 3)).astype(np.uint8)
        return one, (one + 5).astype(np.uint8)

    def test_psnr_is_its_formula(self):
        one, other = self.pair()
        psnr = Psnr("cpu")
        a, b = self.save("a.png", one), self.save("b.png", other)
        self.assertAlmostEqual(psnr(b, a), 20 * math.log10(255 / 5), places=4)
        last = one.copy()
        last[0, 0, 0] += 1
        # Equal pictures count as the closest that are not.
        self.assertAlmostEqual(psnr(a, a), psnr(self.save("c.png", last), a), places=3)

    def test_ssim_is_one_for_equal_pictures_and_its_formula_for_flat_ones(self):
        ssim = Ssim("cpu")
        a = self.save("a.png", self.pair()[0])
        self.assertAlmostEqual(ssim(a, a), 1, places=6)
        flat = [self.save(f"{value}.png", np.full((16, 16, 3), value, np.uint8))
                for value in (51, 102)]
        x, y, c = 0.2, 0.4, 0.01**2  # no variance: only the luminance is left
        # In fp32, E[x^2] - E[x]^2 is a rounding of y^2, held against 0.03^2.
        rounding = 2**-23 * y**2 / 0.03**2
        self.assertAlmostEqual(ssim(*flat), (2 * x * y + c) / (x * x + y * y + c), delta=rounding)

    def test_other_sizes_are_refused(self):
        small, large = self.save("s.png", self.pair(16)[0]), self.save("l.png", self.pair(24)[0])
        for metric in (Psnr("cpu"), Ssim("cpu")):
            self.assert_refused(["s.png", "24 x 24", "16 x 16"], metric, small, large)
        tiny = self.save("t.png", self.pair(8)[0])
        self.assert_refused(["ssim", "11 pixels"], Ssim("cpu"), tiny, tiny)

    def test_lpips_is_the_packages(self):
        try:
            import torchvision
        except (ImportError, RuntimeError) as error:
            self.skipTest(f"needs a torchvision for this torch: {error}")
        (self.folder / BACKBONE).parent.mkdir()
        network = torchvision.models.alexnet(weights=None)
        convolutions = [layer for layer in network.features
                        if isinstance(layer, torch.nn.Conv2d)]
        with torch.no_grad():
            for index, layer in enumerate(convolutions):
                bound = math.sqrt(6.0 / math.prod(layer.weight.shape[1:]))
                layer.weight.copy_(drawn(2 * index, layer.weight, -bound, bound))
                layer.bias.copy_(drawn(2 * index + 1, layer.bias, -0.1, 0.1))
        torch.save(network.state_dict(), self.folder / BACKBONE)
        before = torch.hub.get_dir()
        lpips = Lpips(self.folder, "cpu")
        self.assertEqual(torch.hub.get_dir(), before)
        with torch.no_grad():
            for index, head in enumerate(lpips._metric.net.lins):
                weight = head.model[-1].weight
                weight.copy_(drawn(2 * len(convolutions) + index, weight, 0.0, 1.0))
        golden = json.loads(GOLDEN.read_text())
        shape = (golden["height"], golden["width"], 3)
        for index, distance in enumerate(golden["cases"][0]["distances"]):
            pair = [self.save(f"{part}.png", np.floor(
                256 * fractions(1000 + 2 * index + part, math.prod(shape))
            ).astype(np.uint8).reshape(shape)) for part in (0, 1)]
            self.assertAlmostEqual(lpips(*pair), distance, delta=1e-5 * distance)

    def test_weights_that_are_none_are_named(self):
        self.assert_refused(["alexnet-owt-7be5be79.pth", "torchvision"], Lpips, self.folder, "cpu")


if __name__ == "__main__":
    unittest.main()
