# SPDX-License-Identifier: Apache-2.0
"""Files of compensations: those of the C++ tools, and what is none."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import tempfile
import unittest
import warnings

import torch
from safetensors.torch import load_file, save_file

import rtlynx
import tiny_models
from reference import relative_error
from test_sparsify import random_compensation, run, sparsify

MINI = pathlib.Path(__file__).parents[2] / "models" / "lynx-mini"


class CppFileTest(unittest.TestCase):
    """`rtlynx calibrate` on lynx-mini, which diffusers loads as a FLUX transformer."""

    @unittest.skipUnless(os.environ.get("RTLYNX_BINARY"), "no rtlynx binary")
    def test_makes_up_for_what_the_norm_leaves(self):
        from diffusers import FluxTransformer2DModel
        model = FluxTransformer2DModel.from_pretrained(MINI / "transformer").eval()
        step = self.step(model.config)
        dense = run(model, step)
        sparsify(model)
        norm_alone = relative_error(run(model, step), dense)
        rtlynx.restore(model)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "c.safetensors"
            subprocess.run([*os.environ["RTLYNX_BINARY"].split(), "calibrate", "--model", MINI,
                            "--method", "low-rank", "--prompts", "1", "--steps", "2", "-o", path],
                           check=True, capture_output=True)
            self.assertEqual(len(sparsify(model, path).sparse_layers), 54)
        self.assertLess(relative_error(run(model, step), dense), norm_alone)

    @unittest.skipUnless(os.environ.get("RTLYNX_BINARY"), "no rtlynx binary")
    def test_the_cpp_tool_reads_what_python_calibrates(self):
        from diffusers import FluxTransformer2DModel
        model = FluxTransformer2DModel.from_pretrained(MINI / "transformer").eval()

        def draw():
            with torch.inference_mode():
                model(**self.step(model.config))

        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), \
                contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # few tokens
            path = pathlib.Path(folder) / "c.safetensors"
            rtlynx.calibrate(model, draw, path, method="joint", transform="64", rank=16,
                             recipe=["transformer_blocks.0.ff.net.*"])
            said = subprocess.run(
                [*os.environ["RTLYNX_BINARY"].split(), "info", "--model", MINI, "--layers",
                 "--compensation", path], check=True, capture_output=True, text=True).stdout
        self.assertIn("joint", said)
        self.assertIn("block 64", said)

    @staticmethod
    def step(config):
        generator = torch.Generator().manual_seed(1)
        random = lambda *shape: torch.randn(shape, generator=generator)
        positions = torch.arange(256)
        ids = torch.stack([torch.zeros(256), positions // 16, positions % 16], -1)
        return dict(hidden_states=random(1, 256, config.in_channels),
                    encoder_hidden_states=random(1, 32, config.joint_attention_dim),
                    pooled_projections=random(1, config.pooled_projection_dim),
                    timestep=torch.tensor([0.5]), img_ids=ids, txt_ids=torch.zeros(32, 3),
                    return_dict=False)


class FileTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name) / "c.safetensors"
        self.model = tiny_models.flux()
        self.compensation = random_compensation(self.model)
        self.compensation.metadata["base_revision"] = rtlynx.weights_revision(self.model)
        self.compensation.save(self.path)

    def refuse(self, message):
        keys = list(self.model.state_dict())
        with self.assertRaisesRegex(rtlynx.Error, message):
            rtlynx.sparsify(self.model, self.path)
        self.assertEqual(list(self.model.state_dict()), keys)
        self.assertFalse(hasattr(self.model, "_rtlynx"))

    def rewrite(self, change=lambda tensors: None, **metadata):
        from safetensors import safe_open
        with safe_open(self.path, framework="pt") as file:
            tensors, old = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
        change(tensors)
        save_file(tensors, self.path, {**old, **metadata})

    def test_read_is_what_was_written(self):
        read = rtlynx.read_file(self.path)
        self.assertEqual(read.layers.keys(), self.compensation.layers.keys())
        for name, layer in read.layers.items():
            self.assertTrue(torch.equal(layer.down, self.compensation.layers[name].down.bfloat16()))

    def test_a_transform_without_weights_is_version_3(self):
        from safetensors import safe_open
        compensation = random_compensation(self.model)
        source = next(iter(compensation.layers.values())).input
        channels = self.model.get_submodule(next(iter(compensation.layers))).in_features
        compensation.transforms = {source: rtlynx.InputTransform(
            torch.eye(16).repeat(channels // 16, 1, 1))}
        compensation.save(self.path)
        with safe_open(self.path, framework="pt") as file:
            self.assertEqual(file.metadata()["format_version"], "3")
        self.assertEqual(rtlynx.read_file(self.path).transforms.keys(), {source})

    def test_padded_rank(self):
        compensation = random_compensation(self.model, rank=5)
        compensation.metadata = self.compensation.metadata
        compensation.save(self.path)
        report = sparsify(self.model, self.path)
        self.assertEqual({layer.rank for layer in report.layers if layer.sparse}, {16})

    def test_for_other_weights(self):
        with torch.no_grad():
            self.model.proj_out.bias += 1
        self.refuse("the weights that it was made for, revision .* got revision")

    def test_for_another_model(self):
        self.model = tiny_models.qwen_image()
        self.refuse("the weights that it was made for")

    def test_no_file(self):
        self.path = self.path.with_name("nowhere")
        self.refuse("a compensation file, got no such file")

    def test_half_a_file(self):
        whole = self.path.read_bytes()
        for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
            with self.subTest(size=size):
                self.path.write_bytes(whole[:size])
                self.refuse("a whole safetensors file")

    def test_any_other_safetensors_file(self):
        save_file({"a": torch.zeros(1)}, self.path)
        self.refuse("metadata with format, got none")

    def test_metadata(self):
        targets = json.dumps({"a": {"norm": 1, "input": "a"}})
        for change, message in ((dict(format="lora"), "format rtlynx compensation, got lora"),
                                (dict(pattern="1:4"), "pattern 2:4, got 1:4"),
                                (dict(format_version="5"), "version 4 or older, got 5"),
                                (dict(more="x"), "only metadata of format version 4"),
                                (dict(rank="-1"), "a number in rank"),
                                (dict(targets="["), "targets in JSON"),
                                (dict(targets="[]"), "targets: an object"),
                                (dict(targets=targets), "norm, true or false")):
            with self.subTest(change):
                self.compensation.save(self.path)
                self.rewrite(**change)
                self.refuse(message)

    def test_tensors(self):
        name = next(iter(load_file(self.path)))

        def add(tensors):
            tensors["rtlynx.elsewhere.up"] = torch.zeros(1, dtype=torch.bfloat16)

        def cast(tensors):
            tensors[name] = tensors[name].float()

        def spoil(tensors):
            tensors[name].view(-1)[0] = float("nan")

        def drop(tensors):
            del tensors[next(key for key in tensors if key.endswith("up"))]

        for change, message in ((add, "tensors of its targets, got rtlynx.elsewhere.up"),
                                (cast, "torch.bfloat16, got torch.float32"),
                                (spoil, "finite values"), (drop, "down and up of rank 16")):
            with self.subTest(message):
                self.compensation.save(self.path)
                self.rewrite(change)
                self.refuse(message)

    def test_alpha(self):
        self.rewrite(alpha="32")
        read = rtlynx.read_file(self.path)
        name, layer = next(iter(self.compensation.layers.items()))
        self.assertTrue(torch.equal(read.layers[name].up, 2 * layer.up.bfloat16()))

    def test_layers_that_the_plugin_does_not_run(self):
        targets = {name: {"norm": True, "input": layer.input, "kind": "weight 2:4", "method": ""}
                   for name, layer in self.compensation.layers.items()}
        self.rewrite(format_version="2", targets=json.dumps(targets))
        self.refuse("the plug-in runs no other, got weight 2:4")


if __name__ == "__main__":
    unittest.main()
