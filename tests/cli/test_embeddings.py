# SPDX-License-Identifier: Apache-2.0
"""`rtlynx calibrate --embeddings` and `info` with a small model of each family. Standard library only."""

import json
import math
import pathlib
import random
import shutil
import struct
import unittest

from cli_case import CliTest, run

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "goldens"
SMALL = {"--embeddings": "prompts.safetensors", "--device": "cpu", "--width": "64", "--height": "64",
         "--steps": "2", "--rank": "8", "--method": "low-rank"}


def write_safetensors(path, shapes, seed=0):
    """Random normal values in fp32; weights keep activations of order one, norms are about one."""
    numbers = random.Random(seed)
    header, data = {}, b""
    for name, shape in shapes.items():
        count = math.prod(shape)
        size = shape[-1] ** -0.5 if name.endswith("weight") and len(shape) == 2 else 1
        packed = struct.pack(f"<{count}f", *(numbers.gauss(0, size) for _ in range(count)))
        header[name] = {"dtype": "F32", "shape": shape,
                        "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def z_image_shapes(dim=48, mlp=128, heads=3, text=16, channels=4):
    """diffusers' names: one block of each kind."""
    def block(name):
        attention = {f"attention.{part}.weight": [dim, dim]
                     for part in ("to_q", "to_k", "to_v", "to_out.0")}
        norms = {f"{part}.weight": [dim] for part in ("attention_norm1", "attention_norm2",
                                                      "ffn_norm1", "ffn_norm2")}
        heads_norms = {f"attention.norm_{part}.weight": [dim // heads] for part in "qk"}
        ffn = {"feed_forward.w1.weight": [mlp, dim], "feed_forward.w2.weight": [dim, mlp],
               "feed_forward.w3.weight": [mlp, dim]}
        modulation = {} if name.startswith("context") else {
            "adaLN_modulation.0.weight": [4 * dim, dim], "adaLN_modulation.0.bias": [4 * dim]}
        return {f"{name}.{part}": shape
                for part, shape in (attention | norms | heads_norms | ffn | modulation).items()}

    def linear(name, outputs, inputs):
        return {f"{name}.weight": [outputs, inputs], f"{name}.bias": [outputs]}

    return (block("noise_refiner.0") | block("context_refiner.0") | block("layers.0")
            | linear("all_x_embedder.2-1", dim, 4 * channels)
            | linear("all_final_layer.2-1.linear", 4 * channels, dim)
            | linear("all_final_layer.2-1.adaLN_modulation.1", dim, dim)
            | linear("t_embedder.mlp.0", 1024, 256) | linear("t_embedder.mlp.2", dim, 1024)
            | {"cap_embedder.0.weight": [text]} | linear("cap_embedder.1", dim, text)
            | {"x_pad_token": [1, dim], "cap_pad_token": [1, dim]})


class EmbeddingsTest(CliTest):
    def make(self, family):
        """A folder without text encoders, and embeddings of two prompts."""
        model = self.folder / family
        shutil.copytree(GOLDENS / "pipeline_flux_dev" / "scheduler", model / "scheduler")
        transformer = model / "transformer"
        if family == "z_image":
            transformer.mkdir()
            config = json.loads((GOLDENS / "z_image_1x1" / "config.json").read_text())
            config |= {"dim": 48, "n_heads": 3, "n_kv_heads": 3, "cap_feat_dim": 16}
            (transformer / "config.json").write_text(json.dumps(config))
            write_safetensors(transformer / "diffusion_pytorch_model.safetensors",
                              z_image_shapes())
            features = {"tokens": [9, 16]}
        else:
            shutil.copytree(GOLDENS / f"{family}_1x1", transformer)
            (transformer / "io.safetensors").unlink()
            features = {"tokens": [9, 24]} | ({"pooled": [20]} if family == "flux" else {})
        pipeline = {"flux": "FluxPipeline", "qwen_image": "QwenImagePipeline",
                    "z_image": "ZImagePipeline"}[family]
        (model / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
        write_safetensors(self.folder / "prompts.safetensors",
                          {f"{i}.{name}": shape for i in range(2)
                           for name, shape in features.items()})
        return model

    def calibrate(self, model, *arguments):
        small = [word for option in SMALL.items() if option[0] not in arguments for word in option]
        return run("calibrate", "--model", model, *small, *arguments, cwd=self.folder)

    def test_every_family_is_calibrated_and_described(self):
        for family, layers in (("flux", 14), ("qwen_image", 10), ("z_image", 4)):
            with self.subTest(family):
                model = self.make(family)
                result = self.calibrate(model, "-o", f"{family}.safetensors", "--json")
                self.assertEqual(result.returncode, 0, result.stderr)
                report = json.loads(result.stdout)
                self.assertEqual(len(report["layers"]), layers)
                for layer in report["layers"]:
                    self.assertLess(layer["error"], layer["error_before"], layer)
                self.assertFalse((self.folder / f"{family}.safetensors.blocks").exists())

                result = run("info", "--model", model, "--compensation", f"{family}.safetensors",
                             "--layers", "--json", cwd=self.folder)
                self.assertEqual(result.returncode, 0, result.stderr)
                told = json.loads(result.stdout)
                self.assertEqual(told["model"]["sparsified_layers"], layers)
                self.assertEqual(told["compensation"]["made_for"], report["model"])
                kinds = {layer.get("compensation") for layer in told["model"]["layers"]}
                self.assertEqual(kinds, {None, "norm, rank 8"})

    def test_other_methods_and_transforms(self):
        model = self.make("qwen_image")
        for arguments in (["--method", "joint", "--transform", "16"],
                          ["--method", "refit", "--transform", "permute", "--recipe", "all"]):
            result = self.calibrate(model, *arguments, "-o", "made.safetensors")
            self.assertEqual(result.returncode, 0, result.stderr)

    def test_what_does_not_fit_is_refused_before_anything_is_written(self):
        model = self.make("flux")
        before = self.files()
        for arguments, code, part in (
                (["--embeddings", "none.safetensors"], 1, "none.safetensors"),
                (["--rank", "4096"], 2, "rank: required 1 to"),
                (["--method", "sgd"], 2, "--embeddings: required a method that solves, got sgd"),
                (["--width", "40"], 2, "in steps of 16"),
                (["--true-cfg", "4"], 2, "negative prompt"),
                (["--guidance", "3"], 2, "--guidance: required a model that reads it"),
                (["--prompts", "4"], 2, "excludes"),
                (["-o", "prompts.safetensors"], 2, "required another file than those of")):
            with self.subTest(arguments):
                result = self.calibrate(model, *arguments)
                self.assertEqual(result.returncode, code, result.stderr)
                self.assertIn(part, result.stderr)
                self.assertEqual(self.files(), before)

    def test_a_folder_of_another_model_is_refused(self):
        model = self.make("flux")
        (model / "transformer" / "config.json").write_text('{"_class_name": "SD3Transformer2DModel"}')
        result = self.calibrate(model)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("FluxTransformer2DModel", result.stderr)


if __name__ == "__main__":
    unittest.main()
