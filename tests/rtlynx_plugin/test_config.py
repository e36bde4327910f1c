# SPDX-License-Identifier: Apache-2.0
"""RTLynxConfig: load, save, load again."""

import json
import os
import pathlib
import tempfile
import unittest
import warnings

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel, PipelineQuantizationConfig

import rtlynx
import tiny_models
from test_sparsify import random_compensation, run, sparsify


def quiet(call, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args, **options)


class ConfigTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.model = tiny_models.flux().to(torch.bfloat16)
        self.model.save_pretrained(self.folder / "dense")
        self.step = tiny_models.flux_arguments(dtype=torch.bfloat16)

    def load(self, name, **options):
        return quiet(FluxTransformer2DModel.from_pretrained, self.folder / name,
                     torch_dtype=torch.bfloat16, **options)

    def file(self, **options):
        compensation = random_compensation(self.model, **options)
        compensation.metadata["base_revision"] = rtlynx.weights_revision(self.model)
        compensation.save(self.folder / "c.safetensors")
        return self.folder / "c.safetensors"

    def test_does_what_sparsify_does(self):
        for path in (None, self.file(block=0), self.file(block=16)):
            with self.subTest(path=path):
                loaded = self.load("dense",
                                   quantization_config=rtlynx.RTLynxConfig(path, force=True))
                model = self.load("dense")
                sparsify(model, path)
                self.assertTrue(torch.equal(run(loaded, self.step), run(model, self.step)))

    def test_saves_and_loads_again_to_the_same_bits(self):
        for path in (None, self.file(block=0), self.file(block=16), self.file(rank=24)):
            with self.subTest(path=path):
                model = self.load("dense",
                                  quantization_config=rtlynx.RTLynxConfig(path, force=True))
                model.save_pretrained(self.folder / "sparse")
                os.rename(self.folder / "c.safetensors", self.folder / "gone")
                again = self.load("sparse")
                os.rename(self.folder / "gone", self.folder / "c.safetensors")
                self.assertTrue(torch.equal(run(again, self.step), run(model, self.step)))
                config = json.loads((self.folder / "sparse" / "config.json").read_text())
                self.assertEqual(config["quantization_config"]["quant_method"], "rtlynx")
                again.save_pretrained(self.folder / "sparse")  # and once more
                third = self.load("sparse")
                self.assertTrue(torch.equal(run(third, self.step), run(model, self.step)))

    def test_dequantize_gives_the_dense_model_back(self):
        model = self.load("dense", quantization_config=rtlynx.RTLynxConfig(self.file(), force=True))
        model.dequantize()
        self.assertTrue(torch.equal(run(model, self.step), run(self.model, self.step)))
        model.save_pretrained(self.folder / "again")
        self.assertNotIn("quantization_config",
                         json.loads((self.folder / "again" / "config.json").read_text()))

    def test_a_sparsified_model_saves_its_own_weights(self):
        model = self.load("dense")
        sparsify(model, self.file())
        model.save_pretrained(self.folder / "saved")
        again = self.load("saved")
        self.assertTrue(torch.equal(run(again, self.step), run(self.model, self.step)))

    def test_saving_needs_the_own_weights(self):
        model = self.load("dense")
        sparsify(model, self.file(), keep_original=False)
        with self.assertRaisesRegex(RuntimeError, "keep_original=False"):
            model.save_pretrained(self.folder / "saved")
        self.assertFalse((self.folder / "saved").exists())

    def test_casts_afterwards(self):
        # from_pipe does; diffusers forbids it to quantized models.
        model = self.load("dense", quantization_config=rtlynx.RTLynxConfig(force=True))
        model.to(torch.float32)
        self.assertEqual(run(model, tiny_models.flux_arguments()).dtype, torch.float32)

    def test_in_a_pipeline(self):
        pipe = tiny_models.flux_pipeline(self.model)
        pipe.save_pretrained(self.folder / "pipe")
        config = PipelineQuantizationConfig(
            quant_mapping={"transformer": rtlynx.RTLynxConfig(force=True)})
        loaded = quiet(FluxPipeline.from_pretrained, self.folder / "pipe",
                       quantization_config=config, torch_dtype=torch.bfloat16,
                       **tiny_models.WITHOUT_OTHER_MODELS)
        self.assertEqual(len(rtlynx.report(loaded.transformer).sparse_layers), 14)

    def test_unknown_arguments(self):
        with self.assertRaisesRegex(rtlynx.Error, "the arguments of rtlynx.sparsify, got bits"):
            rtlynx.RTLynxConfig(bits=4)


if __name__ == "__main__":
    unittest.main()
