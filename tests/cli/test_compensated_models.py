# SPDX-License-Identifier: Apache-2.0
"""`rtlynx generate` with a compensation for a small model of each family, and with a LoRA beside it.
Standard library only."""

import json
import unittest
import zlib

from cli_case import made_by, png_chunks, png_size, run
from test_embeddings import write_safetensors
from test_real_models import ModelTest, image_data


def rows_of(path):
    """The rows of an RGB picture, as PNG's five filters keep them."""
    width, height = png_size(path)
    stride = 3 * width
    data = zlib.decompress(b"".join(image_data(path)))
    rows, above = [], bytearray(stride)
    for y in range(height):
        kind, row = data[y * (stride + 1)], bytearray(data[y * (stride + 1) + 1:][:stride])
        for x in range(stride):
            left = row[x - 3] if x >= 3 else 0
            up = above[x]
            corner = above[x - 3] if x >= 3 else 0
            estimate = left + up - corner
            nearest = min((left, up, corner), key=lambda value: abs(estimate - value))
            row[x] = (row[x] + (0, left, up, (left + up) // 2, nearest)[kind]) % 256
        rows.append(bytes(row))
        above = row
    return rows


class CompensatedTest(ModelTest):
    features = {}

    def calibrate(self, output, *arguments):
        write_safetensors(self.folder / "prompts.safetensors",
                          {f"{i}.{name}": shape for i in range(2)
                           for name, shape in self.features.items()})
        result = run("calibrate", "--model", self.model, "--embeddings", "prompts.safetensors",
                     "--device", "cpu", "--width", "64", "--height", "64", "--steps", "2",
                     "--rank", "16", "--method", "joint", "-o", output, *arguments,
                     cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)

    def draw(self, name, *arguments):
        result = self.generate(*arguments, "-o", name)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def check_that_a_file_is_drawn_with(self):
        self.calibrate("best.safetensors")
        for name, arguments in (("best.png", ["--compensation", "best.safetensors"]),
                                ("norm.png", []), ("dense.png", ["--mode", "dense"])):
            self.draw(name, *arguments)
        self.assertEqual(made_by(self.folder / "best.png")["mode"], "joint (transform none, rank 16)")
        pixels = {str(image_data(self.folder / name)) for name in self.pictures()}
        self.assertEqual(len(pixels), 3)
        other = bytearray((self.folder / "best.safetensors").read_bytes())
        revision = other.index(b"base_revision") + len(b'base_revision":"')
        other[revision] = ord("0") if other[revision] != ord("0") else ord("1")
        (self.folder / "other.safetensors").write_bytes(other)
        self.assert_refused(self.generate("--compensation", "other.safetensors"), 1,
                            "other.safetensors", "the weights that it was made for")


class FluxTest(CompensatedTest):
    golden = "pipeline_flux_dev"
    features = {"tokens": [9, 16], "pooled": [16]}

    def test_a_file_is_drawn_with(self):
        self.check_that_a_file_is_drawn_with()

    def write_lora(self):
        """For the layer that takes folded factors and order in, and the one that reads what it
        makes."""
        up, down = "transformer.transformer_blocks.0.ff.net.0.proj", "transformer.transformer_blocks.0.ff.net.2"
        write_safetensors(self.folder / "a.safetensors",
                          {f"{up}.lora_A.weight": [2, 32], f"{up}.lora_B.weight": [128, 2],
                           f"{down}.lora_A.weight": [2, 128], f"{down}.lora_B.weight": [32, 2]})

    def test_a_lora_goes_with_a_compensation_whose_transforms_are_folded(self):
        self.calibrate("best.safetensors", "--transform", "permute")
        self.write_lora()
        with_file = ["--compensation", "best.safetensors"]
        self.draw("plain.png", *with_file)
        self.draw("zero.png", *with_file, "--lora", "a.safetensors:0")
        self.draw("lora.png", *with_file, "--lora", "a.safetensors")
        self.draw("dense.png", "--mode", "dense", "--lora", "a.safetensors")
        result = self.draw("three.png", *with_file, "--lora", "a.safetensors", "--compare", "--json")
        self.assertEqual(image_data(self.folder / "plain.png"), image_data(self.folder / "zero.png"))
        self.assertNotEqual(image_data(self.folder / "plain.png"),
                            image_data(self.folder / "lora.png"))
        # Both columns have it, each once.
        three = rows_of(self.folder / "three.png")
        begin = 3 * (40 + 2)
        self.assertEqual([row[:3 * 40] for row in three], rows_of(self.folder / "dense.png"))
        self.assertEqual([row[begin:begin + 3 * 40] for row in three],
                         rows_of(self.folder / "lora.png"))
        self.assertLess(json.loads(result.stdout)["images"][0]["ssim"], 1)

    def test_a_lora_goes_with_the_models_own_compensation(self):
        self.calibrate(self.model / "compensation.safetensors")
        self.write_lora()
        self.draw("plain.png")
        result = self.draw("lora.png", "--lora", "a.safetensors")
        self.assertIn("sparse by the model's own", result.stderr)
        self.assertNotEqual(image_data(self.folder / "plain.png"),
                            image_data(self.folder / "lora.png"))


class QwenImageTest(CompensatedTest):
    golden = "pipeline_qwen_image"
    features = {"tokens": [9, 16]}

    def test_a_file_is_drawn_with(self):
        self.check_that_a_file_is_drawn_with()


class ZImageTest(CompensatedTest):
    golden = "pipeline_z_image"
    features = {"tokens": [9, 16]}

    def test_a_file_is_drawn_with(self):
        self.check_that_a_file_is_drawn_with()

    def test_the_models_own_file_is_taken_unless_a_mode_is_named(self):
        self.calibrate(self.model / "compensation.safetensors")
        result = self.draw("own.png")
        self.assertIn("sparse by the model's own", result.stderr)
        made = made_by(self.folder / "own.png")
        self.assertEqual((made["mode"], made["compensation"]),
                         ("joint (transform none, rank 16)", "compensation.safetensors"))
        self.draw("norm.png", "--mode", "norm")
        self.assertEqual(made_by(self.folder / "norm.png")["mode"], "norm")
        self.draw("none.png", "--compensation", "none")
        self.assertEqual(image_data(self.folder / "none.png"), image_data(self.folder / "norm.png"))
        self.assertNotEqual(image_data(self.folder / "own.png"),
                            image_data(self.folder / "norm.png"))


if __name__ == "__main__":
    unittest.main()
