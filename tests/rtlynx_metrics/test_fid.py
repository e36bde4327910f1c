# SPDX-License-Identifier: Apache-2.0
"""Frechet distance, its intervals, and clean-fid where it is installed."""

import math
import unittest

import numpy as np
import torch
from stand_ins import MetricsTest

from rtlynx_metrics.fid import CleanInception, FrechetReference, picture_features
from rtlynx_metrics.intervals import bootstrap_mean, jackknife_groups, jackknife_interval
from rtlynx_metrics.pictures import list_pictures


class IntervalTest(unittest.TestCase):
    def test_bootstrap_holds_the_mean(self):
        values = np.random.default_rng(1).normal(3, 2, size=400)
        low, high = bootstrap_mean(values)
        self.assertLess(low, values.mean())
        self.assertGreater(high, values.mean())
        self.assertAlmostEqual(high - low, 2 * 1.96 * values.std() / 20, delta=0.05)
        self.assertEqual(bootstrap_mean(values), (low, high))
        self.assertEqual(bootstrap_mean([2.5]), (2.5, 2.5))

    def test_the_jackknife_of_a_mean_is_its_standard_error(self):
        values = np.random.default_rng(2).normal(size=10)  # one in each group
        kept = [values[indices].mean() for indices in jackknife_groups(10)]
        low, high = jackknife_interval(values.mean(), kept)
        self.assertAlmostEqual(high - low, 2 * 2.262 * values.std(ddof=1) / math.sqrt(10))
        self.assertAlmostEqual((high + low) / 2, values.mean())


class FrechetTest(unittest.TestCase):
    def test_known_gaussians(self):
        generator = np.random.default_rng(0)
        features = generator.normal(size=(60, 5))
        reference = FrechetReference(features)
        self.assertAlmostEqual(reference.distance(features), 0, places=9)
        self.assertAlmostEqual(reference.distance(features + 2), 20, places=9)
        # Three times as wide: tr(C + 9 C - 6 C).
        wide = features.mean(0) + 3 * (features - features.mean(0))
        self.assertAlmostEqual(reference.distance(wide), 4 * np.trace(np.cov(features.T)))

    def test_agrees_with_another_root(self):
        generator = np.random.default_rng(1)
        one = generator.normal(size=(80, 6)) @ generator.normal(size=(6, 6))
        two = generator.normal(size=(70, 6)) @ generator.normal(size=(6, 6)) + 1
        first, second = np.cov(one.T), np.cov(two.T)
        roots = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real.sum()
        wanted = (np.square(one.mean(0) - two.mean(0)).sum() + np.trace(first) + np.trace(second)
                  - 2 * roots)
        self.assertAlmostEqual(FrechetReference(one).distance(two), wanted, places=8)

    def test_fewer_pictures_than_features(self):
        generator = np.random.default_rng(2)
        one, two = generator.normal(size=(10, 40)), generator.normal(size=(10, 40))
        distance = FrechetReference(one).distance(two)
        self.assertGreater(distance, 0)
        self.assertAlmostEqual(distance, FrechetReference(two).distance(one), places=6)


class CleanFidTest(MetricsTest):
    """Against the package, where it is installed; a small network takes Inception's place."""

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 2048, 23, stride=23),
                                              torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

        def forward(self, x):
            return self.layers(x)

    def setUp(self):
        super().setUp()
        try:
            from cleanfid import fid
            from cleanfid.inception_torchscript import InceptionV3W
        except (ImportError, RuntimeError) as error:
            self.skipTest(f"needs clean-fid and a torchvision for this torch: {error}")
        self.package, self.inception = fid, InceptionV3W
        torch.manual_seed(0)
        torch.jit.script(self.Network()).save(str(self.folder / "inception-2015-12-05.pt"))

    def test_features_and_distance_are_the_packages(self):
        folders = [self.draw("one", 3), self.draw("two", 3, seed=1, brighter=40, side=50)]
        ours = CleanInception(self.folder, torch.device("cpu"))
        mine = [np.stack(list(picture_features(list_pictures(folder), ours)))
                for folder in folders]
        model = self.inception(str(self.folder), download=False)
        theirs = [self.package.get_folder_features(str(folder), model, num_workers=0, mode="clean",
                                                   device=torch.device("cpu"), verbose=False)
                  for folder in folders]
        for one, other in zip(mine, theirs):
            np.testing.assert_allclose(one, other, atol=1e-5)
        # On some of the features: the package's root of a singular product is a rough one.
        mine, theirs = ([part[:, :2] for part in parts] for parts in (mine, theirs))
        gaussians = [value for part in theirs for value in (part.mean(0), np.cov(part.T))]
        self.assertAlmostEqual(FrechetReference(mine[0]).distance(mine[1]),
                               self.package.frechet_distance(*gaussians), places=5)

    def test_another_file_is_refused(self):
        (self.folder / "inception-2015-12-05.pt").write_text("nothing")
        self.assert_refused(["inception-2015-12-05.pt", "required a TorchScript Inception"],
                            CleanInception, self.folder, torch.device("cpu"))


if __name__ == "__main__":
    unittest.main()
