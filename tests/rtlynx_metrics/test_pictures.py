# SPDX-License-Identifier: Apache-2.0
"""Folders of pictures, and what pairs them."""

import json
import os
import subprocess
import unittest

from PIL import Image, PngImagePlugin
from stand_ins import SIDE, MetricsTest

from rtlynx_metrics import read_folders


class PicturesTest(MetricsTest):
    def test_prompts_come_from_the_files(self):
        (folder,) = read_folders([self.draw("dense", 3)])
        self.assertEqual(folder.name, "dense")
        self.assertEqual([picture.prompt for picture in folder.pictures],
                         ["a red circle", "a green circle", "a blue circle"])
        self.assertEqual([picture.seed for picture in folder.pictures], ["0", "1", "2"])

    def test_what_generate_writes_is_read(self):
        binary = os.environ["RTLYNX_BINARY"]
        for mode in ("dense", "norm"):
            (self.folder / mode).mkdir()
            subprocess.run([binary, "generate", "-p", "a large red circle", "-n", "2", "--mode",
                            mode, "--steps", "1", "-o", self.folder / mode / "x.png"], check=True,
                           capture_output=True, timeout=600)
        folders = read_folders([self.folder / "dense", self.folder / "norm"])
        self.assertEqual([(picture.path.name, picture.prompt, picture.seed)
                          for picture in folders[1].pictures],
                         [("x-0000.png", "a large red circle", "0"),
                          ("x-0001.png", "a large red circle", "1")])

    def test_folders_that_do_not_pair_are_refused(self):
        dense = self.draw("dense", 3)
        self.assert_refused(["more", "x-0003.png"], read_folders, [dense, self.draw("more", 4)])
        self.assert_refused(["the prompt of", "'a red circle'", "'else'"], read_folders,
                            [dense, self.draw("other", 3, prompt="else")])
        other_noise = self.draw("noise", 3)
        info = PngImagePlugin.PngInfo()
        info.add_text("rtlynx", json.dumps({"prompt": "a red circle", "seed": 9}))
        Image.new("RGB", (SIDE, SIDE)).save(other_noise / "x-0000.png", pnginfo=info)
        self.assert_refused(["the seed of", "'9'"], read_folders, [dense, other_noise])
        self.assert_refused(["names of their own"], read_folders, [dense, dense])

    def test_no_pictures_are_refused(self):
        self.assert_refused(["none", "required a folder"], read_folders, [self.folder / "none"])
        (self.folder / "empty").mkdir()
        self.assert_refused(["required pictures"], read_folders, [self.folder / "empty"])
        (self.folder / "empty" / "x.png").write_text("no picture")
        self.assert_refused(["x.png", "required a picture"], read_folders, [self.folder / "empty"])
        panels = self.draw("panels", 1, mode="dense and norm")
        self.assert_refused(["the panels"], read_folders, [panels])


if __name__ == "__main__":
    unittest.main()
