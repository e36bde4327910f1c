# SPDX-License-Identifier: Apache-2.0
"""Compensations made from Python: better than the norm on inputs that were not seen."""

import contextlib
import io
import pathlib
import tempfile
import unittest
import warnings

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
        for family, (make, arguments) in tiny_models.FAMILIES.items():
            with self.subTest(family):
                model = make()
                new = list(self.steps(arguments, 4, seed=2))
                exact = torch.cat([run(model, step).flatten() for step in new])
                self.calibrate(model, self.drawing(model, arguments, count=100), memory=2**22)
                self.assertFalse(list(self.out.parent.glob("*.passes")))
                error = {}
                for compensation in (None, self.out):
                    sparsify(model, compensation)
                    outputs = torch.cat([run(model, step).flatten() for step in new])
                    error[compensation] = relative_error(outputs, exact)
                    rtlynx.restore(model)
                self.assertLess(error[self.out], error[None])
                self.assertTrue(torch.equal(
                    torch.cat([run(model, step).flatten() for step in new]), exact))

    def test_goes_on_after_a_kill(self):
        model = tiny_models.flux()
        draw, calls = self.drawing(model, tiny_models.flux_arguments), []
        whole = self.calibrate(model, draw, memory=60000)

        def killed():
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            draw()

        with self.assertRaises(KeyboardInterrupt):
            self.calibrate(model, killed, memory=60000)
        with self.assertRaisesRegex(rtlynx.Error, "the rank of the calibration begun"):
            self.calibrate(model, draw, memory=60000, rank=4)
        again = self.calibrate(model, killed, memory=60000)
        for name, layer in whole.layers.items():
            self.assertTrue(torch.equal(layer.down, again.layers[name].down))

    def test_refuses(self):
        model = tiny_models.flux()
        draw = self.drawing(model, tiny_models.flux_arguments)
        for options, message in ((dict(method="joint"), "method low-rank, got joint"),
                                 (dict(rank=64), "a rank from 1 to 32"),
                                 (dict(memory="much"), "memory in bytes"),
                                 (dict(samples=0), "samples, a positive number")):
            with self.subTest(message), self.assertRaisesRegex(rtlynx.Error, message):
                self.calibrate(model, draw, **options)
        with self.assertRaisesRegex(rtlynx.Error, "at least 8 tokens"):
            self.calibrate(model, lambda: None)
        self.out.with_name(self.out.name + ".passes").rename(self.out.with_name("old"))
        with torch.no_grad():
            model.transformer_blocks[0].norm1.linear.bias.fill_(float("nan"))
        with self.assertRaisesRegex(rtlynx.Error, r"finite inputs of transformer_blocks\.0"):
            self.calibrate(model, draw)
        self.assertFalse(self.out.exists())
        with self.assertRaisesRegex(rtlynx.Error, "the folder"):
            rtlynx.calibrate(model, draw, self.out.parent)


if __name__ == "__main__":
    unittest.main()
