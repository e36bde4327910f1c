# SPDX-License-Identifier: Apache-2.0
"""The operators as Python and torch.compile see them; their values are tested in C++."""

import os
import subprocess
import sys
import unittest

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import rtlynx
from op_samples import layer, pack_samples, places, product_arguments, product_samples, random

ops = torch.ops.rtlynx


class RefusalTest(unittest.TestCase):
    def test_none_in_place_of_a_tensor_is_named(self):
        x, weight = random(2, 32), random(24, 32)
        for arguments, name in (((None, weight), "x"), ((x, None), "weight")):
            with self.assertRaisesRegex(RuntimeError,
                                        f"linear24: required {name}, a tensor, got NoneType"):
                rtlynx.linear24(*arguments)
        for op in (rtlynx.sparsify24, rtlynx.pack, rtlynx.residual_norm):
            with self.assertRaisesRegex(RuntimeError, f"{op.__name__}: required x, a tensor"):
                op(None)

    def test_want_of_memory_is_said(self):
        x = torch.zeros(1, 4).expand(1 << 40, 4)  # 16 TiB once it is written out
        with self.assertRaisesRegex(Exception, "want of memory"):
            ops.sparsify24(x, True)


class OpcheckTest(unittest.TestCase):
    """Schema (no argument is written to or shared), fakes, autograd registration and dynamic
    shapes, as torch verifies them."""

    def check(self, op, samples):
        for args, kwargs in samples:
            with self.subTest(op=op, place=str(args or kwargs)):
                torch.library.opcheck(op, args, kwargs)

    def test_sparsify24(self):
        for place in places():
            self.check(ops.sparsify24.default,
                       [((random(5, 32, **place), True), {}),
                        ((random(2, 3, 8, **place), False), {}),
                        ((random(12, **place), True), {}),
                        ((random(8, 5, **place).t(), True), {}),
                        ((random(0, 16, **place), True), {})])

    def test_pack(self):
        for place in places():
            self.check(ops.pack.default, [((), sample) for sample in pack_samples(**place)])

    def test_pack_of_e4m3(self):
        for place in places(narrow_on_gpu=True):
            x = random(2, 5, 80, **place)
            packed = ops.pack(x, e4m3_unit=0.5)
            with FakeTensorMode() as mode:
                fakes = ops.pack(mode.from_tensor(x), e4m3_unit=0.5)
            for fake, real in zip(fakes, packed):
                self.assertEqual((fake.shape, fake.dtype), (real.shape, real.dtype))

    def test_product(self):
        for place in places():
            self.check(ops.product.default, [(sample, {}) for sample in product_samples(**place)])

    def test_product_out(self):
        for place in places():
            for sample in product_samples(**place):
                out = [torch.empty_like(y) for y in ops.product(*sample)]
                largest = [torch.zeros(y.shape[:-1], device=y.device) for y in out]
                self.check(ops.product_out.default, [((*sample, out, []), {}),
                                                     ((*sample, out, largest), {})])

    def test_sparse_weights(self):
        for place in places():
            x, weight = random(2, 5, 32, **place), ops.sparsify24(random(24, 32, **place))[0]
            self.check(ops.pack_weight.default, [((weight,), {})])
            packed = ops.pack_weight(weight)
            low, up = random(2, 5, 16, **place), random(24, 16, **place)
            samples = [(x, low[..., :0], [packed], [24], [], [], [], [], [], []),
                       (x, low, [packed] * 2, [24] * 2, [up] * 2, [0, 0], [random(24, **place)] * 2,
                        [0, 1], [random(2, 24, **place)] * 2, [random(2, 5, 24, **place)] * 2)]
            self.check(ops.weight_product.default, [(sample, {}) for sample in samples])
            for sample in samples:
                out = [torch.empty_like(y) for y in ops.weight_product(*sample)]
                self.check(ops.weight_product_out.default, [((*sample, out), {})])

    def test_sparse_weights_by_name(self):
        for place in places():
            x, weight = random(2, 5, 32, **place), ops.sparsify24(random(24, 32, **place), False)[0]
            down, up, bias = (random(16, 32, **place), random(24, 16, seed=4, **place),
                              random(24, **place))
            packed = rtlynx.pack_weight(weight)
            y, plain = rtlynx.weight_product(x, [packed] * 2, low=x @ down.T, ups=[up] * 2,
                                             low_starts=[0, 0], biases=[bias, None],
                                             activations=["gelu", None])
            wide = x.double() @ weight.double().T + (x @ down.T).double() @ up.double().T
            close = {"rtol": 0.02, "atol": 0.05} if x.dtype == torch.bfloat16 else {}
            torch.testing.assert_close(plain, wide.to(x.dtype), **close)
            torch.testing.assert_close(
                y, torch.nn.functional.gelu(wide + bias, approximate="tanh").to(x.dtype), **close)

    def test_linear24(self):
        for place in places():
            weight, bias, down, up = layer(**place)
            x = random(2, 5, 32, **place)
            self.check(ops.linear24.default,
                       [((x, weight, bias, down, up, True), {}),
                        ((x, weight, None, down, up, False), {}),
                        ((x.transpose(0, 1), weight, None, None, None, False), {}),
                        ((x[0, 0], weight, bias, None, None, True), {}),
                        ((x[:0], weight, bias, down, up, True), {})])

    def test_residual_norm(self):
        for place in places(narrow_on_gpu=True):
            x, y = random(2, 5, 32, **place), random(2, 5, 32, seed=4, **place)
            gate, weight = random(2, 32, **place), random(32, **place)
            self.check(ops.residual_norm.default,
                       [((x,), {}), ((x, y, gate), {}),
                        ((x, y), {"post_weight": weight, "norm": "rms", "weight": weight,
                                  "scale": gate, "shift": gate, "want_normed": True})])

    def test_head_norm(self):
        for place in places(narrow_on_gpu=True):
            q, text = random(2, 5, 32, **place), random(2, 3, 32, **place)
            weight, turn = random(16, **place), random(8, 8, 2, device=place["device"])
            self.check(ops.head_norm.default,
                       [(([q], [q + 1], [], [], [], None, 16), {}),
                        (([text, q], [text + 1, q + 1], [text, q], [weight] * 2, [weight] * 2, turn,
                          16), {})])

    def test_swiglu(self):
        for place in places(narrow_on_gpu=True):
            both = random(2, 5, 64, **place)
            gate, up = both.chunk(2, dim=-1)
            self.check(ops.swiglu.default, [((gate, up), {}), ((both[:0], both[:0]), {})])

    def test_only_product_out_writes_to_its_arguments(self):
        for name in ("sparsify24", "pack", "product", "product_out", "linear24", "residual_norm",
                     "head_norm", "swiglu"):
            schema = getattr(ops, name).default._schema
            self.assertEqual(schema.is_mutable, name == "product_out")
            self.assertTrue(all(result.alias_info is None for result in schema.returns))


def block(x, gate, scale, shift, weights, ups, down, transform, projection):
    """A part of a transformer block, by every operator that one uses."""
    h, moments, _ = rtlynx.residual_norm(x, x * 0.5, gate=gate)
    packed = rtlynx.pack(h, producer="layer_norm", moments=moments, scale=scale, shift=shift,
                         transform=transform, down=down)
    q, k, mlp = rtlynx.product(packed, weights, ups=ups, activations=["none", "none", "gelu"])
    q, k, _ = rtlynx.head_norm([q], [k], head_dim=16)
    joint = torch.cat([q, mlp], dim=-1)
    kept, s = rtlynx.sparsify24(k)
    return rtlynx.linear24(joint, projection) + kept * s[..., None]


def block_arguments(rows, **place):
    return (random(2, rows, 64, **place), random(2, 64, **place), random(2, 64, **place),
            random(2, 64, **place), [random(n, 64, seed=n, **place) for n in (64, 64, 192)],
            [random(n, 16, **place) for n in (64, 64, 192)], random(48, 64, **place),
            random(1, 64, 64, **place), random(64, 256, **place))


class CompileTest(unittest.TestCase):
    def test_one_graph_for_changing_shapes(self):
        for place in places(narrow_on_gpu=True):
            compiled = torch.compile(block, fullgraph=True, backend="aot_eager", dynamic=True)
            for rows in (4, 9):
                arguments = block_arguments(rows, **place)
                torch.testing.assert_close(compiled(*arguments), block(*arguments))

    def test_fakes_refuse_what_the_operators_refuse(self):
        def compiled(function):
            return torch.compile(function, fullgraph=True, backend="aot_eager")
        with self.assertRaisesRegex(Exception, "sparsify24: required a last dimension"):
            compiled(lambda x: rtlynx.sparsify24(x)[0])(random(3, 6))
        with self.assertRaisesRegex(Exception, "pack: required channels divisible by 16"):
            compiled(lambda x: rtlynx.pack(x).scale)(random(3, 24))
        with self.assertRaisesRegex(Exception, r"linear24: required weight \[N, 32\]"):
            compiled(rtlynx.linear24)(random(3, 32), random(8, 16))


class BehaviourTest(unittest.TestCase):
    def test_worked_example(self):
        x = torch.tensor([[3.0, -4.0, 0.5, 0.0, 1.0, 1.0, 1.0, 1.0]])
        kept, scale = rtlynx.sparsify24(x)
        self.assertEqual(kept.tolist(), [[3.0, -4.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]])
        torch.testing.assert_close(scale, x.norm(dim=1) / kept.norm(dim=1))
        x = torch.cat([x, x], dim=1)
        y = rtlynx.linear24(x, torch.eye(16))
        torch.testing.assert_close(y, scale[:, None] * torch.cat([kept, kept], dim=1))
        packed = rtlynx.pack(x)
        torch.testing.assert_close(rtlynx.product(packed, [torch.eye(16)])[0], y)

    def test_entries_of_none_stand_for_nothing(self):
        packed = rtlynx.pack(random(6, 32))
        weights = [random(8, 32), random(24, 32)]
        bias = random(24)
        plain = rtlynx.product(packed, weights)
        for nothing in ({}, {"biases": [None, None]}, {"gates": None},
                        {"activations": [None, "none"]}, {"low_starts": [0, 0]}):
            for y, expected in zip(rtlynx.product(packed, weights, **nothing), plain):
                self.assertTrue(torch.equal(y, expected))
        y = rtlynx.product(packed, weights, biases=[None, bias])
        self.assertTrue(torch.equal(y[0], plain[0]))
        torch.testing.assert_close(y[1], plain[1] + bias)

    def test_errors(self):
        packed = rtlynx.pack(random(2, 32))
        for message, call in (
                (r"pack: required channels divisible by 16, got 24",
                 lambda: rtlynx.pack(random(2, 24))),
                (r"pack: required a producer none, .*, got relu",
                 lambda: rtlynx.pack(random(2, 32), producer="relu")),
                (r"linear24: required weight \[24, 32\] f32, got weight \[24, 16\] f32",
                 lambda: rtlynx.linear24(random(2, 32), random(24, 16))),
                (r"product: required 1 to 4 weights, got 0", lambda: rtlynx.product(packed, [])),
                (r"product: required an activation none or gelu, got silu",
                 lambda: rtlynx.product(packed, [random(8, 32)], activations=["silu"])),
                (r"product: required biases for none or all of 2 weights, got 1",
                 lambda: rtlynx.product(packed, [random(8, 32)] * 2, biases=[random(8)]))):
            with self.assertRaisesRegex(RuntimeError, message):
                call()

    def test_autocast_changes_nothing(self):
        for place in places():
            if place["dtype"] != torch.float32:
                continue
            x = random(6, 32, **place)
            arguments = layer(**place)
            packed = rtlynx.pack(x, down=arguments[2])
            expected = rtlynx.linear24(x, *arguments)
            with torch.autocast(place["device"], dtype=torch.bfloat16):
                self.assertTrue(torch.equal(rtlynx.linear24(x, *arguments), expected))
                again = rtlynx.pack(x, down=arguments[2])
                self.assertTrue(torch.equal(again.low, packed.low))

    def test_gradients_are_refused(self):
        x = random(2, 6, 32).requires_grad_()
        weight = random(24, 32).requires_grad_()
        plain = random(2, 6, 32)
        packed = rtlynx.pack(plain)
        results = {"sparsify24": lambda: rtlynx.sparsify24(x)[0],
                   "pack": lambda: rtlynx.pack(x, down=random(16, 32)).low,
                   "product": lambda: rtlynx.product(packed, [weight])[0],
                   "linear24": lambda: rtlynx.linear24(plain, weight),
                   "residual_norm": lambda: rtlynx.residual_norm(plain, x)[0],
                   "head_norm": lambda: rtlynx.head_norm([plain], [x], head_dim=16)[1],
                   "swiglu": lambda: rtlynx.swiglu(x, plain)}
        for name, result in results.items():
            with self.assertRaisesRegex(RuntimeError, f"rtlynx.{name} has no gradient"):
                result().sum().backward()
            self.assertIsNone(x.grad)
            self.assertIsNone(weight.grad)
            with torch.no_grad():
                self.assertFalse(result().requires_grad)
            self.assertTrue(torch.is_grad_enabled())
        with self.assertRaisesRegex(RuntimeError, "rtlynx.product_out has no gradient"):
            ops.product_out(*product_arguments(packed, [weight]), [random(2, 6, 24)], [])
        with torch.no_grad():
            ops.product_out(*product_arguments(packed, [weight]), [random(2, 6, 24)], [])

    @unittest.skipUnless(torch._C._dispatch_has_kernel_for_dispatch_key("rtlynx::linear24", "CUDA"),
                         "no CUDA registration to ask")
    def test_gpu_kernels_are_there_where_they_were_built(self):
        self.assertEqual(os.environ["RTLYNX_TEST_WITH_CUDA"], "ON")

    def test_missing_library(self):
        for override, reason in (("/nowhere/librtlynx_ops.so", "(RTLYNX_OPS_LIBRARY)"),
                                 (__file__, "required an operator library for torch")):
            run = subprocess.run([sys.executable, "-c", "import rtlynx"], capture_output=True,
                                 text=True, env={**os.environ, "RTLYNX_OPS_LIBRARY": override})
            self.assertNotEqual(run.returncode, 0)
            self.assertIn("ImportError: rtlynx: required", run.stderr)
            self.assertIn(reason, run.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
