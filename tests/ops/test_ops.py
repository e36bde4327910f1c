# SPDX-License-Identifier: Apache-2.0
"""The operators as Python and torch.compile see them; their values are tested in ops_test.cpp."""

import itertools
import os
import subprocess
import sys
import unittest

import torch

import rtlynx

TYPES = (torch.float32, torch.float16, torch.bfloat16)
ops = torch.ops.rtlynx


def layer(dtype, device="cpu", k=32, n=24, rank=8):
    """weight, bias, lora_down, lora_up."""
    generator = torch.Generator().manual_seed(7)
    shapes = (((n, k), 1), ((n,), 1), ((rank, k), 0.1), ((n, rank), 0.1))
    return [(std * torch.randn(shape, generator=generator)).to(device, dtype)
            for shape, std in shapes]


def random(*shape, dtype=torch.float32, device="cpu"):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(device, dtype)


def relative_error(value, exact):
    return ((value.double() - exact).norm() / exact.norm()).item()


def devices():
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


class OpcheckTest(unittest.TestCase):
    """Schema, fake kernels, autograd registration and dynamic shapes, as torch verifies them."""

    def check(self, op, *samples):
        for sample in samples:
            with self.subTest(op=op, shapes=[getattr(a, "shape", a) for a in sample]):
                torch.library.opcheck(op, sample)

    def test_sparsify24(self):
        for dtype in TYPES:
            for device in devices():
                self.check(ops.sparsify24.default,
                           (random(5, 32, dtype=dtype, device=device), True),
                           (random(2, 3, 8, dtype=dtype, device=device), False),
                           (random(12, dtype=dtype, device=device), True),
                           (random(8, 5, dtype=dtype, device=device).t(), True),
                           (random(0, 16, dtype=dtype, device=device), True))

    def test_pack24(self):
        for dtype in TYPES:
            self.check(ops.pack24.default, (random(5, 32, dtype=dtype),),
                       (random(2, 3, 16, dtype=dtype),), (random(16, 5, dtype=dtype).t(),))

    def test_unpack24(self):
        for dtype in TYPES:
            for shape in ((5, 32), (2, 3, 16)):
                values, metadata, _ = rtlynx.pack24(random(*shape, dtype=dtype))
                self.check(ops.unpack24.default, (values, metadata))

    def test_linear24(self):
        for dtype in TYPES:
            for device in devices():
                weight, bias, down, up = layer(dtype, device)
                x = random(2, 5, 32, dtype=dtype, device=device)
                self.check(ops.linear24.default,
                           (x, weight, bias, down, up, True),
                           (x, weight, None, down, up, False),
                           (x, weight, bias, None, None, True),
                           (x.transpose(0, 1), weight, None, None, None, False),
                           (x[0, 0], weight, bias, None, None, True),
                           (x[:0], weight, bias, down, up, True))


class CompileTest(unittest.TestCase):
    def test_one_graph_for_changing_shapes(self):
        def mlp(x, weight, bias, down, up):
            x = torch.nn.functional.gelu(rtlynx.linear24(x, weight, bias, down, up))
            kept, scale = rtlynx.sparsify24(x)
            return kept * scale.view(*x.shape[:-1], 1)

        for device in devices():
            compiled = torch.compile(mlp, fullgraph=True, backend="aot_eager", dynamic=True)
            arguments = layer(torch.float32, device)
            for rows in (4, 9):
                x = random(2, rows, 32, device=device)
                torch.testing.assert_close(compiled(x, *arguments), mlp(x, *arguments))

    def test_fakes_refuse_what_the_operators_refuse(self):
        compiled = torch.compile(lambda x: rtlynx.sparsify24(x)[0], fullgraph=True,
                                 backend="aot_eager")
        with self.assertRaisesRegex(Exception, "sparsify24: required a last dimension"):
            compiled(random(3, 6))


class BehaviourTest(unittest.TestCase):
    def test_worked_example(self):
        x = torch.tensor([[3.0, -4.0, 0.5, 0.0, 1.0, 1.0, 1.0, 1.0]])
        kept, scale = rtlynx.sparsify24(x)
        self.assertEqual(kept.tolist(), [[3.0, -4.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]])
        torch.testing.assert_close(scale, x.norm(dim=1) / kept.norm(dim=1))
        y = rtlynx.linear24(x, torch.eye(8))
        torch.testing.assert_close(y, scale[:, None] * kept)

    def test_errors(self):
        with self.assertRaisesRegex(RuntimeError, r"pack24: required .*16.*f32 \[2, 24\] on cpu"):
            rtlynx.pack24(random(2, 24))
        with self.assertRaisesRegex(RuntimeError, r"linear24: required weight .*\[24, 16\]"):
            rtlynx.linear24(random(2, 32), random(24, 16))

    def test_autocast_changes_nothing(self):
        for device in devices():
            x = random(6, 32, device=device)
            arguments = layer(torch.float32, device)
            expected = rtlynx.linear24(x, *arguments)
            with torch.autocast(device, dtype=torch.bfloat16):
                self.assertTrue(torch.equal(rtlynx.linear24(x, *arguments), expected))

    def test_parameters_that_require_gradients(self):
        arguments = [a.requires_grad_() for a in layer(torch.float32)]
        x = random(6, 32)
        expected = rtlynx.linear24(x, *[a.detach() for a in arguments])
        self.assertTrue(torch.equal(rtlynx.linear24(x, *arguments).detach(), expected))
        self.assertTrue(torch.is_grad_enabled())

    @unittest.skipUnless(torch._C._dispatch_has_kernel_for_dispatch_key("rtlynx::linear24", "CUDA"),
                         "no CUDA registration to ask")
    def test_gpu_tensor_without_gpu_kernels(self):
        if os.environ["RTLYNX_TEST_WITH_CUDA"] == "ON":
            self.skipTest("this build has GPU kernels")
        on_gpu = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
        with self.assertRaisesRegex(RuntimeError, "this build of rtlynx has no CUDA kernels"):
            ops.linear24.default.redispatch(on_gpu, random(2, 32), random(8, 32), None, None, None,
                                            True)

    def test_missing_library(self):
        for override, reason in (("/nowhere/librtlynx_ops.so", "from RTLYNX_OPS_LIBRARY"),
                                 (__file__, "required an operator library for torch")):
            run = subprocess.run([sys.executable, "-c", "import rtlynx"], capture_output=True,
                                 text=True, env={**os.environ, "RTLYNX_OPS_LIBRARY": override})
            self.assertNotEqual(run.returncode, 0)
            self.assertIn("ImportError: rtlynx: required", run.stderr)
            self.assertIn(reason, run.stderr)


@unittest.skipUnless(torch.cuda.is_available(), "torch sees no CUDA device")
class GpuTest(unittest.TestCase):
    """The GPU computes what the CPU computes."""

    def test_sparsify24(self):
        for dtype in TYPES:
            for x in (random(37, 3072, dtype=dtype), random(2, 5, 12, dtype=dtype),
                      random(9, 260, dtype=dtype)[:, 1:257], random(0, 16, dtype=dtype)):
                kept, scale = rtlynx.sparsify24(x)
                gpu_kept, gpu_scale = rtlynx.sparsify24(x.cuda())
                self.assertTrue(torch.equal(gpu_kept.cpu(), kept))
                torch.testing.assert_close(gpu_scale.cpu(), scale, rtol=1e-5, atol=0)

    def test_linear24(self):
        """As exact as a dense layer of the same type on the same GPU."""
        for dtype in TYPES:
            weight, bias, down, up = (a.cuda() for a in layer(dtype, k=512, n=136, rank=16))
            x = random(3, 33, 512, dtype=dtype, device="cuda")
            w, b, d, u, wide = (a.double() for a in (weight, bias, down, up, x))
            dense = wide @ w.T + b
            allowed = 2 * relative_error(torch.nn.functional.linear(x, weight, bias), dense)
            kept = rtlynx.sparsify24(x.cpu())[0].cuda().double()
            s = wide.norm(dim=-1, keepdim=True) / kept.norm(dim=-1, keepdim=True)
            for norm, with_bias, with_lora in itertools.product((False, True), repeat=3):
                exact = (s if norm else 1) * (kept @ w.T)
                exact = exact + (b if with_bias else 0) + (wide @ d.T @ u.T if with_lora else 0)
                y = rtlynx.linear24(x, weight, bias if with_bias else None,
                                    *((down, up) if with_lora else (None, None)), norm=norm)
                with self.subTest(dtype=dtype, norm=norm, bias=with_bias, lora=with_lora):
                    self.assertEqual(y.dtype, dtype)
                    self.assertLessEqual(relative_error(y, exact), allowed)

    def test_side_stream(self):
        x = random(64, 4096, device="cuda")
        weight = random(512, 4096, device="cuda")
        expected = rtlynx.linear24(x, weight)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(10_000_000)
            late = x * 1  # ready only after the sleep: another stream would read it too soon
            y = rtlynx.linear24(late, weight)
        stream.synchronize()
        self.assertTrue(torch.equal(y, expected))

    @unittest.skipUnless(torch.cuda.device_count() > 1, "needs two CUDA devices")
    def test_device_that_is_not_current(self):
        x = random(8, 64, device="cuda:1")
        kept, _ = rtlynx.sparsify24(x)
        self.assertEqual(torch.cuda.current_device(), 0)
        self.assertTrue(torch.equal(kept.cpu(), rtlynx.sparsify24(x.cpu())[0]))

    def test_mixed_devices(self):
        with self.assertRaisesRegex(RuntimeError, "linear24: required .* on cuda:0 to go with x"):
            rtlynx.linear24(random(2, 32).cuda(), random(8, 32))
        with self.assertRaisesRegex(RuntimeError, "linear24: required all tensors on one device"):
            rtlynx.linear24(random(2, 32), random(8, 32).cuda())


if __name__ == "__main__":
    unittest.main(verbosity=2)
