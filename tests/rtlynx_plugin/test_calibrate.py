# SPDX-License-Identifier: Apache-2.0
"""Compensations made from Python: better than the norm on inputs that were not seen."""

import contextlib
import io
import pathlib
import tempfile
import unittest
import warnings
from unittest import mock

import torch

import rtlynx
import tiny_models
from reference import relative_error
from test_sparsify import run, sparsify


class CalibrateTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name) / "c.safetensors"

    def calibrate(self, model, draw, **options):
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return rtlynx.calibrate(model, draw, self.out, **{"rank": 8, **options})

    @staticmethod
    def steps(arguments, count, seed):
        generator = torch.Generator().manual_seed(seed)
        noise = lambda x: torch.randn(x.shape, generator=generator)
        for _ in range(count):
            step = arguments()
            for name in ("hidden_states", "encoder_hidden_states", "x", "cap_feats"):
                if name in step:
                    value = step[name]
                    step[name] = [noise(x) for x in value] if isinstance(value, list) \
                        else noise(value)
            yield step

    def drawing(self, model, arguments, count=12):
        def draw():
            with torch.inference_mode():
                for step in self.steps(arguments, count, seed=1):
                    model(**step)
        return draw

    # 100 steps: several times as many tokens as channels, or the fit is to these tokens alone.
    def test_is_better_than_the_norm_on_new_inputs(self):
        choices = {"flux": (("low-rank", "none"), ("refit", "none"), ("joint", "none"),
                            ("low-rank", "16"), ("joint", 64)),
                   "qwen_image": (("low-rank", "none"), ("joint", "16")),
                   "z_image": (("low-rank", "none"), ("joint", "16"))}
        for family, (make, arguments) in tiny_models.FAMILIES.items():
            model = make()
            new = list(self.steps(arguments, 4, seed=2))
            exact = torch.cat([run(model, step).flatten() for step in new])
            norm_alone = self.error(model, None, new, exact)
            for method, transform in choices[family]:
                with self.subTest(family, method=method, transform=transform):
                    self.calibrate(model, self.drawing(model, arguments, count=100),
                                   memory=2**22, method=method, transform=transform)
                    self.assertFalse(list(self.out.parent.glob("*.passes")))
                    self.assertLess(self.error(model, self.out, new, exact), norm_alone)
                    self.assertTrue(torch.equal(
                        torch.cat([run(model, step).flatten() for step in new]), exact))

    def test_block_by_block_gives_what_passes_of_the_whole_model_give(self):
        for family, (make, arguments) in tiny_models.FAMILIES.items():
            for recipe in ("paper", "all"):
                with self.subTest(family, recipe=recipe):
                    model = make()
                    options = dict(method="joint", transform="16", memory=2**20, recipe=recipe)
                    draw = self.drawing(model, arguments, count=3)
                    whole = self.calibrate(model, draw, captured=0, **options)
                    runs = []
                    by_block = self.calibrate(model, lambda: (runs.append(1), draw()), **options)
                    self.assertEqual(runs, [1])
                    self.assert_same(by_block, whole)
                    self.assert_untouched(model)

    def assert_untouched(self, model):
        self.assertFalse([module for module in model.modules() if "forward" in vars(module)])
        self.assertFalse(model._forward_pre_hooks)

    def test_block_by_block_takes_calls_of_several_lengths(self):
        model = tiny_models.flux()

        def draw():
            with torch.inference_mode():
                for index, step in enumerate(self.steps(tiny_models.flux_arguments, 4, seed=1)):
                    if index % 2:
                        for name in ("encoder_hidden_states", "txt_ids"):
                            text = step[name]
                            step[name] = text[..., :-3, :].contiguous()
                    model(**step)

        self.assert_same(self.calibrate(model, draw, method="joint"),
                         self.calibrate(model, draw, method="joint", captured=0))

    def test_leaves_the_model_as_it_was_when_a_run_or_a_block_fails(self):
        model = tiny_models.flux(blocks=2)
        own = model.transformer_blocks[0].forward  # as accelerate's hooks leave it
        model.transformer_blocks[0].forward = own
        draw = self.drawing(model, tiny_models.flux_arguments, count=2)

        def interrupted():
            draw()
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.calibrate(model, interrupted)
        self.assertFalse(model._forward_pre_hooks)
        calls = []

        def fails(*_):
            calls.append(1)
            if len(calls) == 2 + 1:  # two while run draws
                raise ZeroDivisionError

        hook = model.transformer_blocks[1].attn.register_forward_hook(fails)
        with self.assertRaises(ZeroDivisionError):
            self.calibrate(model, draw)
        hook.remove()
        self.assertIs(model.transformer_blocks[0].__dict__["forward"], own)
        del model.transformer_blocks[0].forward
        self.assert_untouched(model)

    def test_refuses_a_compiled_model_before_it_runs(self):
        model = tiny_models.flux()
        model.compile_repeated_blocks(backend="eager")
        with self.assertRaisesRegex(rtlynx.Error, "captured=0 for a model that is compiled"):
            self.calibrate(model, lambda: self.fail("run was called"))
        self.assertFalse(list(self.out.parent.glob("*.passes")))

    def test_refuses_calls_that_leave_out_a_block(self):
        model = tiny_models.flux(blocks=2, singles=2)
        draw = self.drawing(model, tiny_models.flux_arguments, count=2)
        full = model.single_transformer_blocks
        first = torch.nn.ModuleList([full[0]])

        class Half(type(model)):
            def forward(self, *args, **kwargs):
                self.single_transformer_blocks = first
                try:
                    return super().forward(*args, **kwargs)
                finally:
                    self.single_transformer_blocks = full

        model.__class__ = Half
        with self.assertRaisesRegex(rtlynx.Error, "captured=0 repeats run instead, got one that left "
                                                  r"out single_transformer_blocks\.1"):
            self.calibrate(model, draw)

    def assert_same(self, first, second):
        self.assertEqual(first.layers.keys(), second.layers.keys())
        for name, layer in first.layers.items():
            for part in ("down", "up", "weight"):
                self.assertTrue(torch.equal(getattr(layer, part),
                                            getattr(second.layers[name], part)))
        self.assertEqual(first.transforms.keys(), second.transforms.keys())
        for source, transform in first.transforms.items():
            self.assertTrue(torch.equal(transform.blocks, second.transforms[source].blocks))

    def test_a_block_runs_once_for_each_captured_call_and_pass(self):
        model, calls = tiny_models.flux(blocks=2, singles=2), []
        count = lambda *_: calls.append(1)
        for block in (model.transformer_blocks[0], model.single_transformer_blocks[1]):
            block.attn.to_v.register_forward_hook(count)
        draw = self.drawing(model, tiny_models.flux_arguments, count=9)
        self.calibrate(model, draw, captured=4)
        self.assertEqual(len(calls), 2 * (9 + 4))
        calls.clear()
        self.calibrate(model, draw, captured=4, transform="16")
        self.assertEqual(len(calls), 2 * (9 + 2 * 4))

    def test_says_first_how_much_there_is_to_do(self):
        model, text = tiny_models.flux(), io.StringIO()
        draw = self.drawing(model, tiny_models.flux_arguments, count=5)
        with contextlib.redirect_stderr(text), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rtlynx.calibrate(model, draw, self.out, rank=8, captured=3)
        self.assertRegex(text.getvalue(), "14 layers, 7 inputs: one run, then 2 passes of a block, 0 of "
                                          "them done; sums of up to .* GiB")
        self.assertRegex(text.getvalue(), "3 of 5 calls captured; the blocks run for about .* min")

    @staticmethod
    def error(model, compensation, new, exact):
        sparsify(model, compensation)
        outputs = torch.cat([run(model, step).flatten() for step in new])
        rtlynx.restore(model)
        return relative_error(outputs, exact)

    def test_what_each_method_writes(self):
        model = tiny_models.flux()
        draw = self.drawing(model, tiny_models.flux_arguments, count=2)
        for method, transform, parts, norm in (
                ("low-rank", "none", {"down", "up"}, True), ("refit", "none", {"weight"}, False),
                ("joint", "16", {"down", "up", "weight"}, False)):
            with self.subTest(method):
                self.calibrate(model, draw, method=method, transform=transform)
                read = rtlynx.read_file(self.out)
                for layer in read.layers.values():
                    self.assertEqual({part for part in ("down", "up", "weight")
                                      if getattr(layer, part) is not None}, parts)
                    self.assertEqual(layer.norm, norm)
                inputs = {layer.input for layer in read.layers.values()}
                self.assertEqual(set(read.transforms), inputs if transform == "16" else set())
        # A transform is of the inputs that the model reads: K = 32 and 128 in blocks of 16.
        self.assertEqual({tuple(transform.blocks.shape) for transform in read.transforms.values()},
                         {(2, 16, 16), (8, 16, 16)})

    def test_moments_are_of_what_the_layer_reads(self):
        from rtlynx import _moments
        linear = torch.nn.Linear(16, 8)
        group = rtlynx._recipes.Group(["layer"], "image", True, [linear])
        x = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
        blocks = torch.linalg.qr(torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1)))[0]
        for transform in (None, rtlynx.InputTransform(blocks)):
            sums = _moments.Sums(group, ("xx", "xs", "ss"), False, None, transform)
            sums.see(linear, (x[:25],))
            sums.see(linear, (x[25:],))
            z = x if transform is None else x @ blocks[0]
            kept = torch.where(self.largest_two(z), z, 0).double()
            z = z.double()
            for name, exact in (("xx", z.T @ z), ("xs", z.T @ kept), ("ss", kept.T @ kept)):
                self.assertLess(relative_error(sums.sums[name], exact), 1e-6, name)
            self.assertEqual(sums.tokens, 40)

    @staticmethod
    def largest_two(z):
        grouped = z.unflatten(-1, (-1, 4)).abs()
        return (grouped >= grouped.topk(2, dim=-1)[0][..., -1:]).flatten(-2)

    def test_goes_on_after_a_kill(self):
        model = tiny_models.flux()
        draw, calls = self.drawing(model, tiny_models.flux_arguments), []
        options = dict(memory=60000, method="joint", transform="16", captured=0)
        whole = self.calibrate(model, draw, **options)

        def killed():
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            draw()

        with self.assertRaises(KeyboardInterrupt):
            self.calibrate(model, killed, **options)
        with self.assertRaisesRegex(rtlynx.Error, "the rank of the calibration begun"):
            self.calibrate(model, draw, **options, rank=4)
        self.assert_same(self.calibrate(model, killed, **options), whole)

    def test_goes_on_behind_the_last_solved_block(self):
        from rtlynx import _moments
        model = tiny_models.flux(blocks=2, singles=2)
        draw, solve, solved = self.drawing(model, tiny_models.flux_arguments), \
            _moments.solve_layers, []
        whole = self.calibrate(model, draw, method="joint")

        def killed(sums, *others):
            solved.append(sums[0].group.layers[0].rsplit(".", 2)[0])
            if len(solved) == 3:
                raise KeyboardInterrupt
            return solve(sums, *others)

        with mock.patch.object(_moments, "solve_layers", killed):
            with self.assertRaises(KeyboardInterrupt):
                self.calibrate(model, draw, method="joint")
            again = self.calibrate(model, draw, method="joint")
        self.assertEqual(len(solved), 3 + 2)  # the third block once more, and the fourth
        self.assert_same(again, whole)

    def test_refuses(self):
        model = tiny_models.flux()
        draw = self.drawing(model, tiny_models.flux_arguments)
        for options, message in ((dict(method="sgd"), "method low-rank, refit, joint, got sgd"),
                                 (dict(transform="8"), "transform none, 16, 64, 128, got 8"),
                                 (dict(rank=64), "a rank from 1 to 32"),
                                 (dict(memory="much"), "memory in bytes"),
                                 (dict(samples=0), "samples, a positive number"),
                                 (dict(captured=-1), "captured, a number of calls or 0")):
            with self.subTest(message), self.assertRaisesRegex(rtlynx.Error, message):
                self.calibrate(model, draw, **options)
        with self.assertRaisesRegex(rtlynx.Error, "a run that calls the model"):
            self.calibrate(model, lambda: None)
        with self.assertRaisesRegex(rtlynx.Error, "at least 8 tokens"):
            self.calibrate(model, lambda: None, captured=0)
        with torch.no_grad():
            model.transformer_blocks[0].norm1.linear.bias.fill_(float("nan"))
        with self.assertRaisesRegex(rtlynx.Error, r"finite inputs of transformer_blocks\.0"):
            self.calibrate(model, draw)
        self.assertFalse(self.out.exists())
        with self.assertRaisesRegex(rtlynx.Error, "the folder"):
            rtlynx.calibrate(model, draw, self.out.parent)


if __name__ == "__main__":
    unittest.main()
