# SPDX-License-Identifier: Apache-2.0
"""The measures of CLIP against a small CLIP itself, read as the trained one is."""

import unittest

import torch
from stand_ins import MetricsTest, tiny_clip

from rtlynx_metrics import read_folders
from rtlynx_metrics.clip import ClipIqa, ClipScore, TensorFeatures, load_clip
from rtlynx_metrics.pictures import Picture, read_pixels


class ClipTest(MetricsTest):
    def setUp(self):
        super().setUp()
        tiny_clip(self.folder / "clip-vit-large-patch14")
        self.model, self.processor = load_clip(self.folder)
        (folder,) = read_folders([self.draw("dense", 4)])
        self.pictures = folder.pictures

    def features(self, picture, text):
        """Unit image and text features by the model itself."""
        clip = self.model.clip
        with torch.no_grad():
            inputs = self.processor(images=[read_pixels(picture.path)], return_tensors="pt")
            image = clip.visual_projection(clip.vision_model(**inputs).pooler_output)
            inputs = self.processor(text=text, return_tensors="pt", padding=True)
            words = clip.text_projection(clip.text_model(
                inputs["input_ids"][:, :24], inputs["attention_mask"][:, :24]).pooler_output)
        return image / image.norm(), words / words.norm(dim=-1, keepdim=True)

    def test_score_is_the_cosine_in_percent(self):
        score = ClipScore(lambda: (self.model, self.processor), "cpu")
        for picture in self.pictures:
            image, words = self.features(picture, picture.prompt)
            self.assertAlmostEqual(score(picture), 100 * (image @ words.T).item(), places=3)

    def test_long_prompts_are_cut(self):
        score = ClipScore(lambda: (self.model, self.processor), "cpu")
        long = Picture(self.pictures[0].path, "a red circle " * 20)
        image, words = self.features(long, long.prompt)
        with self.assertWarns(UserWarning):
            arrived = score(long)
        self.assertAlmostEqual(arrived, 100 * (image @ words.T).item(), places=3)

    def test_quality_is_good_against_bad(self):
        quality = ClipIqa(lambda: (self.model, self.processor), "cpu")
        for picture in self.pictures:
            image, words = self.features(picture, ["Good photo.", "Bad photo."])
            wanted = (100 * image @ words.T).softmax(-1)[0, 0].item()
            self.assertAlmostEqual(quality(picture), wanted, places=4)

    def test_older_transformers_give_tensors(self):
        class Older(torch.nn.Module):
            config = None

            def get_image_features(self, pixels):
                return pixels + 1

        self.assertEqual(TensorFeatures(Older()).get_image_features(torch.ones(1)).item(), 2)

    def test_a_folder_without_a_model_is_refused(self):
        (self.folder / "clip-vit-large-patch14" / "config.json").write_text("{")
        self.assert_refused(["clip-vit-large-patch14", "required a CLIP model"], load_clip,
                            self.folder)


if __name__ == "__main__":
    unittest.main()
