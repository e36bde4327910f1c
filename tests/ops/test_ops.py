# SPDX-License-Identifier: Apache-2.0
"""The operators as Python and torch.compile see them; their values are tested in C++."""

import os
import subprocess
import sys
import unittest

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import rtlynx

ops = torch.ops.rtlynx


def random(*shape, dtype=torch.float32, device="cpu", seed=3):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def places(narrow_on_gpu=False):
    """A wide and a narrow type on every device."""
    types = {"cpu": (torch.float32, torch.bfloat16)}
    if torch.cuda.is_available():
        types["cuda"] = (torch.bfloat16,) if narrow_on_gpu else types["cpu"]
    return [{"dtype": dtype, "device": device} for device in types for dtype in types[device]]


def layer(k=32, n=24, rank=16, **place):
    """weight, bias, lora_down, lora_up."""
    return [std * random(*shape, seed=7, **place)
            for shape, std in (((n, k), 1), ((n,), 1), ((rank, k), 0.1), ((n, rank), 0.1))]


def pack_samples(**place):
    """Arguments of pack, by name, for every producer."""
    x = random(2, 5, 64, **place)
    moments = random(2, 5, 2, device=place["device"]).abs()
    modulation = {"weight": random(64, **place), "scale": random(2, 64, **place),
                  "shift": random(2, 64, **place)}
    return [{"x": x},
            {"x": x.transpose(0, 1), "norm": False},
            {"x": random(3, 128, **place), "tail": random(3, 16, **place)},
            {"x": x, "producer": "gelu", "down": random(32, 64, **place)},
            {"x": x, "producer": "swiglu", "up": x + 1},
            {"x": x, "producer": "layer_norm", **modulation},
            {"x": x, "producer": "rms_norm", "moments": moments, **modulation,
             "transform": random(4, 16, 16, **place), "down": random(16, 64, **place)},
            {"x": x[:, :0], "down": random(16, 64, **place)}]


def product_arguments(packed, weights, ups=(), low_starts=(), biases=(), activations=(),
                      gates=(), residuals=()):
    return (*packed, list(weights), list(ups), list(low_starts), list(biases), list(activations),
            list(gates), list(residuals))


def product_samples(**place):
    """Positional arguments of product, for one weight and four, with and without each part."""
    packed = rtlynx.pack(random(2, 5, 32, **place), down=random(64, 32, **place))
    outputs = (24, 8, 40, 16)
    weights = [random(n, 32, seed=n, **place) for n in outputs]
    none = weights[0].new_empty(0)
    return [product_arguments(packed, weights[:1]),
            product_arguments(packed, weights, ups=[random(n, 16, **place) for n in outputs],
                              biases=[random(24, **place), none, random(40, **place).float(), none],
                              activations=[0, 1, 0, 0],
                              gates=[random(2, 24, **place), none, none, random(1, 16, **place)],
                              residuals=[none, random(2, 5, 8, **place), none, none]),
            product_arguments(packed, weights[:2],
                              ups=[random(n, 16, **place).t().contiguous().t()
                                   for n in outputs[:2]], low_starts=[48, 48])]


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


@unittest.skipUnless(torch.cuda.is_available(), "torch sees no CUDA device")
class GpuTest(unittest.TestCase):
    """Streams, graphs and devices; the values are tested in C++."""

    # M, N, K and rank for which the last wave is cut along K, on an H200.
    STREAM_K = (1536, 3072, 3072, 64)
    SMALL = (70, 40, 64, 16)

    @staticmethod
    def group(m, n, k, rank, count=4):
        """Pack and product of some weights, with an epilogue; and x."""
        place = {"dtype": torch.bfloat16, "device": "cuda"}
        x = random(m, k, **place)
        weights = [random(n, k, seed=i, **place) / k**0.5 for i in range(count)]
        ups = [random(n, rank, **place) for _ in weights]
        down = random(count * rank, k, **place) / k**0.5
        bias, residual = random(n, device="cuda"), random(m, n, **place)

        def run(x):
            packed = rtlynx.pack(x, producer="layer_norm", down=down)
            return torch.stack(rtlynx.product(packed, weights, ups=ups, biases=[bias] * count,
                                              activations=["gelu"] + ["none"] * (count - 1),
                                              residuals=[residual] * count))
        return run, x

    def test_graph(self):
        for shape in (self.SMALL, self.STREAM_K):
            run, x = self.group(*shape)
            expected = run(x)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                y = run(x)
            for _ in range(3):
                y.zero_()
                graph.replay()
                self.assertTrue(torch.equal(y, expected))

    def test_a_graph_and_calls_beside_it(self):
        """Neither disturbs the other's workspace."""
        run, x = self.group(*self.STREAM_K)
        expected = run(x)
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        with torch.cuda.graph(graph):
            y = run(x)
        stream.wait_stream(torch.cuda.current_stream())
        for _ in range(20):
            graph.replay()
            with torch.cuda.stream(stream):
                beside = run(x)
        torch.cuda.synchronize()
        self.assertTrue(torch.equal(y, expected))
        self.assertTrue(torch.equal(beside, expected))

    def test_side_stream(self):
        for shape in (self.SMALL, self.STREAM_K):
            run, x = self.group(*shape)
            expected = run(x)
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                torch.cuda._sleep(10_000_000)
                late = x * 1  # ready only after the sleep: another stream would read it too soon
                y = run(late)
            stream.synchronize()
            self.assertTrue(torch.equal(y, expected))

    def test_two_streams_at_once(self):
        run, x = self.group(*self.STREAM_K)
        inputs = [x, x * 2 + 1]
        expected = [run(of) for of in inputs]
        streams = [torch.cuda.Stream() for _ in inputs]
        for stream in streams:
            stream.wait_stream(torch.cuda.current_stream())
        results = [[], []]
        for _ in range(20):
            for stream, of, into in zip(streams, inputs, results):
                with torch.cuda.stream(stream):
                    into.append(run(of))
        torch.cuda.synchronize()
        for own, into in zip(expected, results):
            for y in into:
                self.assertTrue(torch.equal(y, own))

    @unittest.skipUnless(torch.cuda.device_count() > 1, "needs two CUDA devices")
    def test_device_that_is_not_current(self):
        x = random(8, 64, device="cuda:1")
        kept, _ = rtlynx.sparsify24(x)
        self.assertEqual(torch.cuda.current_device(), 0)
        self.assertTrue(torch.equal(kept.cpu(), rtlynx.sparsify24(x.cpu())[0]))

    def test_mixed_devices(self):
        packed = rtlynx.pack(random(2, 32).cuda().half())
        weight = random(8, 32).half()
        cases = {
            r"linear24: required weight of type f32 on cuda:0, got f32 \[8, 32\] on cpu":
                lambda: rtlynx.linear24(random(2, 32).cuda(), random(8, 32)),
            "linear24: required all tensors on one device":
                lambda: rtlynx.linear24(random(2, 32), random(8, 32).cuda()),
            r"product: required weight of type f16 on cuda:0, got f16 \[8, 32\] on cpu":
                lambda: rtlynx.product(packed, [weight]),
            r"product: required scale of type f32 on cuda:0, got f32 \[2\] on cpu":
                lambda: rtlynx.product(packed._replace(scale=packed.scale.cpu()), [weight.cuda()]),
            "product: required all tensors on one device":
                lambda: rtlynx.product(packed._replace(operand=packed.operand.cpu()),
                                       [weight.cuda()]),
            "product: required the operand of 2 tokens and 96 channels that pack gave":
                lambda: rtlynx.product(packed, [random(8, 96).half().cuda()])}
        for message, call in cases.items():
            with self.assertRaisesRegex(RuntimeError, message):
                call()

    def test_types_and_shapes_that_the_kernels_do_not_take(self):
        x = random(2, 32).cuda()
        packed = rtlynx.pack(x.half(), down=random(64, 32).cuda().half())
        for message, call in {
                "residual_norm: required f16 or bf16 on a GPU, got f32":
                    lambda: rtlynx.residual_norm(x),
                "head_norm: required f16 or bf16 on a GPU, got f32":
                    lambda: rtlynx.head_norm([x[None]], [x[None]], head_dim=16),
                "swiglu: required f16 or bf16 on a GPU, got f32": lambda: rtlynx.swiglu(x, x),
                "required outputs N of 1 to 2\\^30, divisible by 8, got 12":
                    lambda: rtlynx.product(packed, [random(12, 32).cuda().half()]),
                "required a rank of 0 to 128, divisible by 16, got 8":
                    lambda: rtlynx.product(packed, [random(8, 32).cuda().half()],
                                           ups=[random(8, 8).cuda().half()]),
                "required at most 256 rows of down, a multiple of 16, got 272":
                    lambda: rtlynx.pack(x.half(), down=random(272, 32).cuda().half())}.items():
            with self.assertRaisesRegex(RuntimeError, message):
                call()


if __name__ == "__main__":
    unittest.main(verbosity=2)
