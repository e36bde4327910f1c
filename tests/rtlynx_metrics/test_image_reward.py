# SPDX-License-Identifier: Apache-2.0
"""What the package image-reward is given."""

import contextlib
import io
import os
import pathlib
import sys
import types
import unittest

import torch
from stand_ins import MetricsTest, Redness

from rtlynx_metrics import read_folders
from rtlynx_metrics.image_reward import ImageReward
from rtlynx_metrics.measure import Networks


class ImageRewardTest(MetricsTest):
    """The package itself needs other versions of transformers than the rest: a stub takes its
    place."""

    def setUp(self):
        super().setUp()
        (self.folder / "ImageReward").mkdir()
        (self.folder / "bert-base-uncased").mkdir()
        (self.folder / "ImageReward" / "med_config.json").write_text("{}")
        self.checkpoint = self.folder / "ImageReward" / "ImageReward.pt"
        torch.save({"mlp.layers.0.weight": torch.zeros(1)}, self.checkpoint)
        self.package = types.ModuleType("ImageReward")
        sys.modules["ImageReward"] = self.package
        self.addCleanup(sys.modules.pop, "ImageReward")

    def test_local_files_are_all_that_the_package_gets(self):
        def load(name, device, med_config):
            print("load checkpoint")  # as the package does
            self.assertTrue(pathlib.Path(name).samefile(self.checkpoint))
            self.assertTrue(pathlib.Path(med_config).is_file())
            self.assertTrue(pathlib.Path("bert-base-uncased").is_dir())  # the tokenizer it asks for
            return Redness()

        self.package.load = load
        before, out = os.getcwd(), io.StringIO()
        with contextlib.redirect_stdout(out):
            reward = ImageReward(Networks(self.folder, "cpu").image_reward)
        self.assertEqual((os.getcwd(), out.getvalue()), (before, ""))
        (folder,) = read_folders([self.draw("dense", 1)])
        self.assertEqual(reward(folder.pictures[0]),
                         Redness().score("a red circle", folder.pictures[0].path))

    def test_a_checkpoint_of_something_else_is_refused(self):
        networks = Networks(self.folder, "cpu")
        torch.save({"weight": torch.zeros(1)}, self.checkpoint)
        self.assert_refused(["ImageReward.pt", "mlp.layers.0.weight"], networks.image_reward)
        self.checkpoint.write_text("nothing")
        self.assert_refused(["ImageReward.pt", "required a state dict"], networks.image_reward)


if __name__ == "__main__":
    unittest.main()
