# SPDX-License-Identifier: Apache-2.0
"""LoRAs on a sparsified model: beside the sparse layers, fused into them, exchanged."""

import copy
import pathlib
import tempfile
import unittest

import torch

import rtlynx
import tiny_models
from reference import reference_model, relative_error
from test_sparsify import (FLOAT32_ERROR, SHARED, counted, random_compensation, run,
                           sparsify)

WEIGHTS = "pytorch_lora_weights.safetensors"


def add_lora(model, name="first", seed=3, targets=("to_q", "to_k", "proj_mlp", "ff.net.0.proj")):
    from peft import LoraConfig
    model.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=list(targets),
                                 init_lora_weights=False), adapter_name=name)
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in model.named_parameters():
        if f".{name}." in key:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
            parameter.requires_grad_(False)


class LoraTest(unittest.TestCase):
    def setUp(self):
        self.step = tiny_models.flux_arguments()

    def model(self, block):
        model = tiny_models.flux()
        sparsify(model, random_compensation(model, block=block) if block is not None else None)
        return model

    def test_adds_to_the_sparse_layer_and_packs_stay_shared(self):
        for block in (None, 0, 16):
            with self.subTest(block=block):
                model = self.model(block)
                plain = run(model, self.step)
                add_lora(model)
                result, counts = counted(model, self.step)
                self.assertEqual(counts, SHARED)
                self.assertGreater(relative_error(result, plain), 1e-2)
                model.disable_adapters()
                self.assertTrue(torch.equal(run(model, self.step), plain))
                model.unload_lora()
                self.assertTrue(torch.equal(run(model, self.step), plain))

    def test_what_a_fused_lora_adds(self):
        # Through a sparse input, so not the same; far nearer than without it.
        for block in (None, 16):
            with self.subTest(block=block):
                model = self.model(block)
                plain = run(model, self.step)
                add_lora(model)
                beside = run(model, self.step)
                model.fuse_lora()
                fused = run(model, self.step)
                effect = relative_error(plain, beside)
                self.assertLess(relative_error(fused, beside), effect / 2)
                model.unfuse_lora()
                self.assertLess(relative_error(run(model, self.step), beside), 1e-5)

    def test_fused_into_a_transformed_weight(self):
        model = self.model(16)
        add_lora(model)
        layer = model.transformer_blocks[0].ff.net[0].proj
        delta = layer.get_delta_weight("first")
        a = layer.base_layer.lynx_transform.mT
        product = layer.scaling["first"] * layer.lora_B["first"].weight @ layer.lora_A["first"].weight
        back = delta @ torch.block_diag(*a).T  # (B A) A^-T A^T
        self.assertLess(relative_error(back, product), 1e-5)

    def test_loaded_before(self):
        model = tiny_models.flux()
        add_lora(model)
        dense = run(model, self.step)
        report = sparsify(model)
        self.assertEqual(len(report.sparse_layers), 14)
        self.assertLess(relative_error(run(model, self.step), dense), 0.3)
        rtlynx.restore(model)
        self.assertTrue(torch.equal(run(model, self.step), dense))

    def test_loaded_before_a_transform(self):
        model = tiny_models.flux()
        compensation = random_compensation(model)
        add_lora(model)
        with self.assertRaisesRegex(rtlynx.Error, "LoRAs loaded after"):
            sparsify(model, compensation)

    def test_restoring_with_a_fused_lora(self):
        model = self.model(16)
        add_lora(model)
        model.fuse_lora()
        with self.assertRaisesRegex(rtlynx.Error, "unfuse_lora first"):
            rtlynx.restore(model)

    def test_several_adapters_files_and_hotswap(self):
        model = self.model(16)
        model.enable_lora_hotswap(target_rank=4)
        add_lora(model, "first", seed=3)
        first = run(model, self.step)
        with tempfile.TemporaryDirectory() as folder:
            model.save_lora_adapter(pathlib.Path(folder) / "first", adapter_name="first")
            model.delete_adapters("first")
            add_lora(model, "second", seed=4)
            second = run(model, self.step)
            model.load_lora_adapter(pathlib.Path(folder) / "first", adapter_name="second",
                                    hotswap=True, prefix=None,
                                    weight_name=WEIGHTS)
            self.assertLess(relative_error(run(model, self.step), first), 1e-5)
            model.load_lora_adapter(pathlib.Path(folder) / "first", adapter_name="third",
                                    prefix=None, weight_name=WEIGHTS)
        add_lora(model, "fourth", seed=4)
        model.set_adapters("fourth")
        self.assertLess(relative_error(run(model, self.step), second), 1e-5)
        model.set_adapters(["third", "fourth"], [1.0, 0.5])
        self.assertGreater(relative_error(run(model, self.step), second), 1e-3)


class StepLoraTest(unittest.TestCase):
    """LoRAs that make a model draw in few steps: on every Linear of the blocks, with an alpha."""

    RANK, ALPHA = 4, 8

    def state(self, model):
        # As the files of Qwen-Image-Lightning name it.
        generator = torch.Generator().manual_seed(8)
        random = lambda *shape: 0.2 * torch.randn(shape, generator=generator)
        state = {}
        for name, linear in model.named_modules():
            if isinstance(linear, torch.nn.Linear) and name.startswith("transformer_blocks."):
                state |= {f"{name}.lora_down.weight": random(self.RANK, linear.in_features),
                          f"{name}.lora_up.weight": random(linear.out_features, self.RANK),
                          f"{name}.alpha": torch.tensor(float(self.ALPHA))}
        return state

    def load(self, model, state):
        from diffusers.loaders import QwenImageLoraLoaderMixin as Loader
        Loader.load_lora_into_transformer(Loader.lora_state_dict(dict(state)), model)

    def test_loaded_from_a_state_dict(self):
        model, step = tiny_models.qwen_image(), tiny_models.qwen_image_arguments()
        state, plain = self.state(model), copy.deepcopy(model)
        layers = sparsify(model).sparse_layers
        twin = reference_model(plain, layers)
        without, counts = counted(model, step)
        with torch.no_grad():  # beside what is sparse, and into what is not
            for name in layers:
                down, up = state[f"{name}.lora_down.weight"], state[f"{name}.lora_up.weight"]
                twin.get_submodule(name).register_forward_hook(
                    lambda _, x, y, product=self.ALPHA / self.RANK * up @ down:
                    y + x[0] @ product.T)
            for name in {key.rsplit(".lora", 1)[0] for key in state if "lora" in key} - set(layers):
                down, up = state[f"{name}.lora_down.weight"], state[f"{name}.lora_up.weight"]
                twin.get_submodule(name).weight += self.ALPHA / self.RANK * up @ down
        self.load(model, state)
        result, with_lora = counted(model, step)
        self.assertEqual(with_lora, counts)
        self.assertLess(relative_error(result, run(twin, step)), FLOAT32_ERROR)
        self.assertGreater(relative_error(result, without), 0.1)
        model.fuse_lora()
        fused, counts_fused = counted(model, step)
        self.assertEqual(counts_fused, counts)
        self.assertLess(relative_error(fused, result), relative_error(without, result) / 2)


if __name__ == "__main__":
    unittest.main()
