# SPDX-License-Identifier: Apache-2.0
"""`rtlynx generate` with a model in diffusers' layout: a small FLUX.1. Standard library only."""

import json
import pathlib
import shutil
import struct
import unittest

from cli_case import CliTest, made_by, png_chunks, png_size, run

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "goldens"
FLUX_PARTS = {"tokenizer": "text_flux/tokenizer", "tokenizer_2": "text_flux/tokenizer_2",
              "text_encoder": "text_flux/text_encoder",
              "text_encoder_2": "text_flux/text_encoder_2", "vae": "vae_kl"}


class FluxTest(CliTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "flux"
        shutil.copytree(GOLDENS / "pipeline_flux_dev", self.model)
        for part, golden in FLUX_PARTS.items():
            shutil.copytree(GOLDENS / golden, self.model / part)

    def generate(self, *arguments, prompt="a red cat", size="40x24"):
        return run("generate", "--model", self.model, "--device", "cpu", "--size", size,
                   "--steps", "2", "-p", prompt, *arguments, cwd=self.folder)

    def pictures(self):
        return [name for name in self.files() if name.endswith(".png")]

    def test_a_picture_says_how_it_was_drawn(self):
        result = self.generate("--seed", "5", "-o", "cat.png")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(png_size(self.folder / "cat.png"), (40, 24))
        made = made_by(self.folder / "cat.png")
        for key, value in (("prompt", "a red cat"), ("seed", 5), ("model", "flux"),
                           ("mode", "norm"), ("steps", 2), ("guidance", 3.5), ("width", 40)):
            self.assertEqual(made[key], value)

    def test_a_picture_does_not_depend_on_its_batch(self):
        for batch in ("1", "2"):
            result = self.generate("-n", "2", "--batch", batch, "--mode", "dense", "-o",
                                   f"batch{batch}.png")
            self.assertEqual(result.returncode, 0, result.stderr)
        read = {name: (self.folder / name).read_bytes() for name in self.pictures()}
        self.assertEqual(len(read), 4)
        self.assertNotEqual(read["batch1-0000.png"], read["batch1-0001.png"])

    def test_dense_and_sparse_side_by_side(self):
        result = self.generate("--compare", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertLess(report["images"][0]["ssim"], 1)
        self.assertGreater(report["images"][0]["ssim"], 0)
        self.assertEqual(png_size(self.folder / "rtlynx.png"), (3 * 40 + 4, 24))

    def write_lora(self, layer):
        values = struct.pack("<64f", *[0.5] * 64)
        tensors = {"lora_A": {"dtype": "F32", "shape": [2, 32], "data_offsets": [0, 256]},
                   "lora_B": {"dtype": "F32", "shape": [32, 2], "data_offsets": [256, 512]}}
        head = json.dumps({f"{layer}.{name}.weight": entry
                           for name, entry in tensors.items()}).encode()
        (self.folder / "a.safetensors").write_bytes(
            struct.pack("<Q", len(head)) + head + values + values)

    def test_a_lora_changes_the_picture_by_its_strength(self):
        self.write_lora("transformer.transformer_blocks.0.attn.to_v")
        pixels = {}
        for name, lora in (("none", []), ("zero", ["--lora", "a.safetensors:0"]),
                           ("one", ["--lora", "a.safetensors"])):
            result = self.generate(*lora, "-o", f"{name}.png")
            self.assertEqual(result.returncode, 0, result.stderr)
            pixels[name] = [body for kind, body in
                            png_chunks((self.folder / f"{name}.png").read_bytes())
                            if kind == b"IDAT"]
        self.assertEqual(pixels["none"], pixels["zero"])
        self.assertNotEqual(pixels["none"], pixels["one"])
        self.assertEqual(made_by(self.folder / "one.png")["loras"],
                         [{"file": "a.safetensors", "strength": 1}])

    def test_a_lora_for_another_model_is_refused(self):
        self.write_lora("lora_te1_text_model_encoder_layers_0_mlp_fc1")
        self.assert_refused(self.generate("--lora", "a.safetensors"), 1, "a.safetensors",
                            "lora_te1_text_model_encoder_layers_0_mlp_fc1")
        self.assert_refused(self.generate("--lora", "a.safetensors:much"), 2, "FILE:STRENGTH")
        self.assert_refused(self.generate("--lora", "none.safetensors"), 1, "none.safetensors")
        self.assertEqual(self.pictures(), [])

    def test_a_negative_prompt_needs_true_cfg(self):
        self.assert_refused(self.generate("--negative", "a dog"), 2, "together")
        self.assert_refused(self.generate("--true-cfg", "2"), 2, "together")
        result = self.generate("--negative", "a dog", "--true-cfg", "2")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(made_by(self.folder / "rtlynx.png")["negative"], "a dog")

    def test_what_is_cut_of_a_prompt_is_said(self):
        result = self.generate(prompt="a red cat on a window " * 30)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("CLIP reads 75 tokens; the last", result.stderr)

    def test_refusals_come_before_the_work(self):
        self.assert_refused(self.generate(size="41x24"), 2, "steps of 8", "41x24")
        self.assert_refused(self.generate(prompt="caf\udce9"), 2, "UTF-8")
        (self.model / "vae" / "config.json").unlink()
        self.assert_refused(self.generate(), 1, "vae/config.json")
        shutil.rmtree(self.model / "text_encoder_2")
        self.assert_refused(self.generate(), 1, "text_encoder_2")
        index = self.model / "model_index.json"
        index.write_text(index.read_text().replace("FluxPipeline", "OtherPipeline"))
        self.assert_refused(self.generate(), 1, "FluxPipeline", "OtherPipeline")
        self.assertEqual(self.pictures(), [])


if __name__ == "__main__":
    unittest.main()
