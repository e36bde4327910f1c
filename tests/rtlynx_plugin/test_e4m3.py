# SPDX-License-Identifier: Apache-2.0
"""Layers in e4m3, on diffusers' transformers in tiny configurations. The CPU computes what the GPU
would."""

import copy
import os
import tempfile
import unittest

import torch
from torch._dynamo.testing import CompileCounterWithBackend

import rtlynx
import tiny_models
from reference import relative_error
from rtlynx import _e4m3, _linear
from test_lora import add_lora
from test_sparsify import random_compensation, run, sparsify
from tiny_models import FAMILIES

# Two roundings of four bits err by 3.7 % a product; what follows mixes and normalises that.
LARGEST_EFFECT, LEAST_EFFECT = 0.2, 1e-3


class E4m3Test(unittest.TestCase):
    def test_is_near_the_layers_own_type_and_not_the_same(self):
        for name, (make, arguments) in FAMILIES.items():
            for block in (0, 16):
                with self.subTest(name, block=block):
                    model, step = make(), arguments()
                    compensation = random_compensation(model, block=block)
                    twin = copy.deepcopy(model)
                    sparsify(twin, compensation)
                    sparsify(model, compensation, dtype="e4m3")
                    error = relative_error(run(model, step), run(twin, step))
                    self.assertLess(error, LARGEST_EFFECT)
                    self.assertGreater(error, LEAST_EFFECT)

    def test_a_layer_is_pack_and_product_of_its_codes(self):
        linear = torch.nn.Linear(128, 48)
        weight, bias = linear.weight.detach(), linear.bias.detach()
        down, up = torch.randn(16, 128), torch.randn(48, 16)
        _linear.make_sparse([linear], low_ranks=[(down, up)])
        linear.lynx_group.round_to_e4m3()
        unit = _e4m3.unit_of([weight])
        self.assertLessEqual(weight.abs().max().item() / unit, 448)
        x = torch.randn(2, 5, 128)
        packed = rtlynx.pack(x, down=down, e4m3_unit=unit)
        expected, = rtlynx.product(packed, [_e4m3.codes_of(weight, unit)], ups=[up / unit],
                                   biases=[bias])
        with torch.no_grad():
            self.assertTrue(torch.equal(linear(x), expected))

    def test_restoring_is_exact(self):
        for name, (make, arguments) in FAMILIES.items():
            with self.subTest(name):
                model, step = make(), arguments()
                before = {key: value.clone() for key, value in model.state_dict().items()}
                dense = run(model, step)
                sparsify(model, random_compensation(model), dtype="e4m3")
                self.assertFalse(any("codes" in key for key in model.state_dict()))
                rtlynx.restore(model)
                after = model.state_dict()
                self.assertEqual(before.keys(), after.keys())
                self.assertTrue(all(torch.equal(before[key], after[key]) for key in before))
                self.assertTrue(torch.equal(run(model, step), dense))

    def test_another_type_leaves_the_codes(self):
        model, step = tiny_models.flux(), tiny_models.flux_arguments(dtype=torch.bfloat16)
        sparsify(model, random_compensation(model), dtype="e4m3")
        model.to(torch.bfloat16)
        for module in model.modules():
            codes = getattr(module, "lynx_codes", None)
            if codes is not None:
                self.assertEqual(codes.dtype, torch.float8_e4m3fn)
                self.assertEqual(module.lynx_code_up.dtype, torch.bfloat16)
        self.assertTrue(run(model, step).isfinite().all())

    def test_compiled_blocks_equal_eager_ones(self):
        model, step = tiny_models.flux(), tiny_models.flux_arguments()
        sparsify(model, random_compensation(model), dtype="e4m3")
        eager = run(model, step)
        model.compile_repeated_blocks(fullgraph=True, backend="aot_eager")
        self.assertLess(relative_error(run(model, step), eager), 1e-5)

    def test_repeated_blocks_make_as_many_graphs_as_dense_ones(self):
        for block in (0, 16):
            graphs = []
            for dtype in (None, "e4m3"):
                with self.subTest(block=block, dtype=dtype):
                    torch._dynamo.reset()
                    model, step = tiny_models.flux(blocks=4, singles=4), tiny_models.flux_arguments()
                    with torch.no_grad():  # each block has a unit of its own
                        for index, parameter in enumerate(model.transformer_blocks.parameters()):
                            parameter.mul_(2.0 ** (index % 7 - 3))
                    if dtype:
                        sparsify(model, random_compensation(model, block=block), dtype=dtype)
                    counter = CompileCounterWithBackend("aot_eager")
                    model.compile_repeated_blocks(backend=counter, fullgraph=True)
                    run(model, step)
                    graphs.append(counter.frame_count)
            self.assertLessEqual(graphs[1], graphs[0])

    def test_a_fused_lora_is_rounded_with_the_weight(self):
        for block in (0, 16):
            with self.subTest(block=block):
                model, step = tiny_models.flux(), tiny_models.flux_arguments()
                sparsify(model, random_compensation(model, block=block), dtype="e4m3")
                without = run(model, step)
                add_lora(model)
                beside = run(model, step)
                model.fuse_lora()
                fused = run(model, step)
                effect = relative_error(beside, without)
                self.assertLess(relative_error(fused, beside), effect / 2)
                model.unfuse_lora()
                self.assertLess(relative_error(run(model, step), beside), effect / 20)

    def test_a_file_says_it(self):
        model, step = tiny_models.flux(), tiny_models.flux_arguments()
        compensation = random_compensation(model)
        compensation.metadata["base_revision"] = rtlynx.weights_revision(model)
        for layer in compensation.layers.values():
            layer.e4m3 = True
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "c.safetensors")
            compensation.save(path)
            read = rtlynx.read_file(path)
            self.assertEqual(read.metadata["format_version"], "4")
            self.assertTrue(all(layer.e4m3 for layer in read.layers.values()))
            twin = copy.deepcopy(model)
            sparsify(model, path)
            sparsify(twin, read, dtype="e4m3")
        self.assertTrue(torch.equal(run(model, step), run(twin, step)))

    def test_what_is_refused(self):
        model = tiny_models.flux()
        with self.assertRaisesRegex(rtlynx.Error, 'required a dtype of "e4m3" or None, got int8'):
            rtlynx.sparsify(model, dtype="int8")
        layer = model.transformer_blocks[0].attn.to_q
        with torch.no_grad():
            layer.weight[0, 0] = float("nan")
        with self.assertRaisesRegex(rtlynx.Error, "required finite weights for e4m3"):
            sparsify(model, dtype="e4m3")


if __name__ == "__main__":
    unittest.main()
