# SPDX-License-Identifier: Apache-2.0
"""sparsify, restore and the report, on diffusers' transformers in tiny configurations."""

import copy
import json
import unittest
import warnings

import torch
from torch import nn

import rtlynx
import tiny_models
from reference import Counts, reference_model, relative_error
from tiny_models import FAMILIES, output_of

# A rounding of float32 accumulated over the layers; a choice of other channels is 1e-2.
FLOAT32_ERROR = 2e-5
SHARED = (7, 14)  # packs and weights of a double and a single block of FLUX, the paper's layers


def sparsify(model, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rtlynx.sparsify(model, *args, **{"force": True, **options})


def random_compensation(model, recipe="paper", rank=16, block=16):
    generator = torch.Generator().manual_seed(11)
    random = lambda *shape: torch.randn(shape, generator=generator)
    linears = dict(model.named_modules())
    layers, transforms = {}, {}
    for group in rtlynx.groups_of(model, recipe):
        channels = linears[group[0]].in_features
        if block:
            blocks = torch.linalg.qr(random(channels // block, block, block))[0]
            transforms[group[0]] = rtlynx.InputTransform(blocks=blocks)
        for name in group:
            outputs = linears[name].out_features
            layers[name] = rtlynx.LayerCompensation(
                input=group[0], down=0.1 * random(rank, channels), up=0.1 * random(outputs, rank))
    return rtlynx.Compensation(layers, transforms)


@torch.no_grad()
def run(model, arguments):
    return output_of(model(**arguments))


def counted(model, step):
    with Counts() as counts:
        result = run(model, step)
    return result, (counts.packs, counts.weights)


class SparsifyTest(unittest.TestCase):
    def test_equals_the_method_written_in_plain_torch(self):
        for name, (make, arguments) in FAMILIES.items():
            for recipe in ("paper", "all"):
                with self.subTest(name, recipe=recipe):
                    model, step = make(), arguments()
                    dense = run(model, step)
                    twin = copy.deepcopy(model)
                    report = sparsify(model, recipe=recipe)
                    expected = run(reference_model(twin, report.sparse_layers), step)
                    got = run(model, step)
                    self.assertLess(relative_error(got, expected), FLOAT32_ERROR)
                    self.assertGreater(relative_error(got, dense), 1e-3)

    def test_equals_the_method_with_low_rank_and_transform(self):
        for name, (make, arguments) in FAMILIES.items():
            for block in (0, 16):
                with self.subTest(name, block=block):
                    model, step = make(), arguments()
                    compensation = random_compensation(model, block=block)
                    twin = copy.deepcopy(model)
                    sparsify(model, compensation)
                    expected = run(reference_model(twin, compensation.layers, compensation), step)
                    self.assertLess(relative_error(run(model, step), expected), FLOAT32_ERROR)

    def test_layers_of_one_input_share_a_pack_and_a_product(self):
        # FLUX: a double and a single block. Qwen: two blocks. Z-Image: the one of `layers`.
        wanted = {"flux": (7, 7, 14), "qwen_image": (12, 12, 20), "z_image": (2, 2, 4)}
        for name, (make, arguments) in FAMILIES.items():
            with self.subTest(name):
                model = make()
                sparsify(model, random_compensation(model))
                with Counts() as counts:
                    run(model, arguments())
                self.assertEqual((counts.packs, counts.products, counts.weights), wanted[name])

    def test_a_group_of_many_low_rank_columns_is_cut(self):
        model = tiny_models.flux(blocks=0)
        compensation = random_compensation(model, rank=96, block=0)  # 4 x 96 > 256
        twin = copy.deepcopy(model)
        sparsify(model, compensation)
        step = tiny_models.flux_arguments()
        with Counts() as counts:
            got = run(model, step)
        self.assertEqual((counts.packs, counts.products, counts.weights), (2, 2, 4))
        expected = run(reference_model(twin, compensation.layers, compensation), step)
        self.assertLess(relative_error(got, expected), FLOAT32_ERROR)

    def test_reading_again_and_changing_the_input_in_place(self):
        model = tiny_models.flux()
        sparsify(model)
        attn = model.transformer_blocks[0].attn
        x = torch.randn(1, 5, 32)
        with torch.no_grad():
            first = attn.to_q(x)
            self.assertTrue(torch.equal(attn.to_q(x), first))
            key = attn.to_k(x)
            x.mul_(2)
            self.assertTrue(torch.equal(attn.to_k(x), attn.to_k(x.clone())))
            self.assertFalse(torch.equal(attn.to_k(x), key))

    def test_nothing_is_left_on_the_input(self):
        model = tiny_models.flux()
        sparsify(model)
        attn = model.transformer_blocks[0].attn
        x = torch.randn(1, 5, 32)
        with torch.no_grad():
            attn.to_q(x), attn.to_k(x), attn.to_v(x)
        self.assertTrue(all(value is None for value in vars(x).values()))

    def test_narrow_types_batches_and_guidance(self):
        for name, (make, arguments) in FAMILIES.items():
            for dtype in (torch.float16, torch.bfloat16):
                for batch in (1, 2, 4):
                    with self.subTest(name, dtype=dtype, batch=batch):
                        model = make().to(dtype)
                        step = arguments(batch=batch, dtype=dtype)
                        dense = run(model, step)
                        sparsify(model, recipe="all")
                        got = run(model, step)
                        self.assertEqual(got.dtype, dense.dtype)
                        self.assertTrue(got.isfinite().all())
                        self.assertLess(relative_error(got, dense), 0.5)

    def test_strided_input(self):
        model = tiny_models.flux()
        sparsify(model)
        up = model.transformer_blocks[0].ff.net[0].proj
        x = torch.randn(4, 6, 64)[::2, :, ::2]
        with torch.no_grad():
            self.assertTrue(torch.equal(up(x), up(x.contiguous())))

    def test_restore_is_exact(self):
        for name, (make, arguments) in FAMILIES.items():
            with self.subTest(name):
                model, step = make(), arguments()
                state = copy.deepcopy(model.state_dict())
                types = [type(module) for module in model.modules()]
                dense = run(model, step)
                sparsify(model, random_compensation(model))
                rtlynx.restore(model)
                self.assertEqual([type(module) for module in model.modules()], types)
                self.assertEqual(model.state_dict().keys(), state.keys())
                for key, value in model.state_dict().items():
                    self.assertTrue(torch.equal(value, state[key]), key)
                self.assertTrue(torch.equal(run(model, step), dense))
                sparsify(model)  # and again

    def test_deepcopy_and_pickle(self):
        model, step = tiny_models.flux(), tiny_models.flux_arguments()
        sparsify(model, random_compensation(model))
        twin = copy.deepcopy(model)
        self.assertTrue(torch.equal(run(twin, step), run(model, step)))
        rtlynx.restore(twin)
        self.assertEqual(len(rtlynx.report(model).sparse_layers), 14)

    def test_to_moves_and_casts_everything(self):
        model = tiny_models.flux()
        sparsify(model, random_compensation(model))
        model.to(torch.bfloat16)
        step = tiny_models.flux_arguments(dtype=torch.bfloat16)
        self.assertTrue(run(model, step).isfinite().all())

    def test_a_generic_model(self):
        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm_in = nn.Linear(32, 32)
                self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

            def forward(self, x):
                return x + self.down(self.up(self.norm_in(x)).relu())

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.layers = nn.Linear(32, 32), nn.ModuleList([Block(), Block()])

            def forward(self, x):
                x = self.embed(x)
                for block in self.layers:
                    x = block(x)
                return x

        model = Model()
        report = sparsify(model)
        self.assertEqual(report.sparse_layers,
                         ["layers.0.up", "layers.0.down", "layers.1.up", "layers.1.down"])
        with Counts() as counts, torch.no_grad():
            model(torch.randn(3, 32))
        self.assertEqual((counts.packs, counts.products), (4, 4))


class ChoiceTest(unittest.TestCase):
    """Which layers; full sizes on meta."""

    @classmethod
    def setUpClass(cls):
        from diffusers import FluxTransformer2DModel
        with torch.device("meta"):
            cls.flux = FluxTransformer2DModel(num_layers=1, num_single_layers=1)

    def setUp(self):
        self.model = copy.deepcopy(self.flux)

    def sparsify(self, **options):
        return sparsify(self.model, **{"force": False, **options})

    def test_papers_layers_where_they_are_faster(self):
        report = self.sparsify()
        self.assertIn("transformer_blocks.0.attn.to_q", report.sparse_layers)
        self.assertIn("single_transformer_blocks.0.proj_mlp", report.sparse_layers)
        self.assertNotIn("single_transformer_blocks.0.proj_out", report.sparse_layers)
        # 512 text tokens are too few.
        self.assertFalse([name for name in report.sparse_layers if "add_" in name])
        self.assertGreater(report.saved_us, 0)
        self.assertLess(report.saved_us, report.dense_us)

    def test_all_layers_of_the_blocks(self):
        report = self.sparsify(recipe="all")
        self.assertIn("single_transformer_blocks.0.proj_out", report.sparse_layers)
        self.assertFalse([name for name in report.sparse_layers if "norm" in name])

    def test_a_group_is_sparse_or_dense_as_a_whole_by_its_tokens(self):
        report = self.sparsify(tokens={"image": 1024, "text": 128})
        for group in report.groups:
            runs = {layer.sparse for layer in report.layers if layer.group == group.name}
            self.assertEqual(len(runs), 1)
        few = self.sparsify_again(tokens=256)
        self.assertLess(len(few.sparse_layers), len(report.sparse_layers))

    def sparsify_again(self, **options):
        rtlynx.restore(self.model)
        return self.sparsify(**options)

    def test_names_with_wildcards(self):
        report = self.sparsify(recipe=["*.ff.net.*"], exclude="*.net.2")
        self.assertEqual(report.sparse_layers, ["transformer_blocks.0.ff.net.0.proj"])

    def test_report(self):
        report = self.sparsify()
        self.assertIn("transformer_blocks.*.attn.to_q", str(report))
        self.assertIn("pictures get softer", str(report))
        self.assertIn("<table>", report._repr_html_())
        facts = report.to_dict()
        self.assertEqual(len(facts["layers"]), 28)
        reasons = {layer["name"]: layer["reason"] for layer in facts["layers"]}
        self.assertTrue(all(reasons.values()))
        self.assertEqual(reasons["x_embedder"], "outside the blocks")
        self.assertEqual(reasons["transformer_blocks.0.norm1.linear"],
                         "a norm, modulation or embedding")
        self.assertTrue(any(group["sparse_us"] is None for group in facts["groups"]))
        json.dumps(facts, allow_nan=False)

    def test_warns_without_compensation(self):
        with self.assertWarnsRegex(UserWarning, "pictures get softer"):
            rtlynx.sparsify(self.model)


class BadInputTest(unittest.TestCase):
    """Each is refused, and the model is as it was."""

    def refuse(self, message, model, *args, **options):
        types = [type(module) for module in model.modules()]
        keys = list(model.state_dict())
        with self.assertRaisesRegex(rtlynx.Error, message):
            sparsify(model, *args, **options)
        self.assertEqual([type(module) for module in model.modules()], types)
        self.assertEqual(list(model.state_dict()), keys)
        self.assertFalse(hasattr(model, "_rtlynx"))

    def test_what_is_no_model(self):
        with self.assertRaisesRegex(rtlynx.Error, "required a torch.nn.Module.*got int"):
            rtlynx.sparsify(3)
        self.refuse("required a model with nn.Linear", nn.Conv2d(1, 1, 1))

    def test_options(self):
        model = tiny_models.flux()
        self.refuse('required a recipe .*got best', model, recipe="best")
        self.refuse("names of Linears of the model in exclude, got nowhere", model, exclude="nowhere")
        self.refuse("tokens of image and text, positive", model, tokens={"audio": 3})
        self.refuse("tokens of image and text, positive", model, tokens=0)

    def test_a_compensation_that_does_not_fit(self):
        model = tiny_models.flux()
        compensation = random_compensation(model)
        name = next(iter(compensation.layers))
        layer = compensation.layers[name]
        layer.up = layer.up[:-1]
        self.refuse(r"required up \[32, 16\], got \[31, 16\]", model, compensation)
        compensation = random_compensation(model)
        compensation.layers["elsewhere"] = layer
        self.refuse("got elsewhere", model, compensation)

    def test_twice(self):
        model = tiny_models.flux()
        sparsify(model)
        with self.assertRaisesRegex(rtlynx.Error, "not sparsified yet"):
            sparsify(model)
        rtlynx.restore(model)
        with self.assertRaisesRegex(rtlynx.Error, "made sparse"):
            rtlynx.restore(model)

    def test_hooks_come_later(self):
        model = tiny_models.flux()
        model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn,
                                       compute_dtype=torch.float32)
        self.refuse("no offload or casting hooks yet", model)

    def test_replaced_weights_that_were_not_kept(self):
        model = tiny_models.flux()
        sparsify(model, random_compensation(model), keep_original=False)
        with self.assertRaisesRegex(rtlynx.Error, "keep_original=True"):
            rtlynx.restore(model)

    def test_fusing_projections_afterwards(self):
        model = tiny_models.flux()
        sparsify(model)
        with self.assertRaisesRegex(RuntimeError, "Fuse before"):
            model.fuse_qkv_projections()

    def test_gradients(self):
        model, step = tiny_models.flux(), tiny_models.flux_arguments()
        sparsify(model)
        with self.assertRaisesRegex(RuntimeError, "no gradient"):
            output_of(model(**step)).sum().backward()


if __name__ == "__main__":
    unittest.main()
