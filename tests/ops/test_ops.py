# SPDX-License-Identifier: Apache-2.0
"""The operators as Python and torch.compile see them; their values are tested in ops_test.cpp."""

import itertools
import os
import subprocess
import sys
import unittest

import torch

import rtlynx

NARROW_TYPES = (torch.float16, torch.bfloat16)
TYPES = (torch.float32, *NARROW_TYPES)
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


def same_bits(a, b):
    return torch.equal(a.cpu().view(torch.int16), b.cpu().view(torch.int16))


def transposed(tensor):
    """The same values, the last two dimensions exchanged in memory."""
    return tensor if tensor.dim() < 2 else tensor.mT.contiguous().mT


def shifted(tensor):
    """The same values, contiguous, one element behind an address that torch aligned."""
    room = tensor.new_empty(tensor.numel() + 1)
    return room[1:].view(tensor.shape).copy_(tensor)


def devices():
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def packable():
    """Devices and the types that pack24 takes there."""
    return [(device, dtype) for device in devices() for dtype in TYPES
            if device == "cpu" or dtype != torch.float32]


class RefusalTest(unittest.TestCase):
    def test_none_in_place_of_a_tensor_is_named(self):
        x, weight = random(2, 32), random(24, 32)
        for arguments, name in (((None, weight), "a tensor"), ((x, None), "weight")):
            with self.assertRaisesRegex(Exception, f"linear24: required {name}.*got None"):
                ops.linear24(*arguments, None, None, None, True)

    def test_want_of_memory_is_said(self):
        x = torch.zeros(1, 4).expand(1 << 40, 4)  # 16 TiB once it is written out
        with self.assertRaisesRegex(Exception, "want of memory"):
            ops.sparsify24(x, True)


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
        for device, dtype in packable():
            self.check(ops.pack24.default, (random(5, 32, dtype=dtype, device=device),),
                       (random(2, 3, 16, dtype=dtype, device=device),),
                       (random(16, 5, dtype=dtype, device=device).t(),),
                       (random(0, 16, dtype=dtype, device=device),))

    def test_unpack24(self):
        for device, dtype in packable():
            for shape in ((5, 32), (2, 3, 16), (0, 16)):
                values, metadata, _ = rtlynx.pack24(random(*shape, dtype=dtype, device=device))
                self.check(ops.unpack24.default, (values, metadata))

    def test_linear24(self):
        self.check_linear(ops.linear24.default)

    def test_linear24_auto(self):
        self.check_linear(ops.linear24_auto.default)

    def check_linear(self, op):
        for dtype in TYPES:
            for device in devices():
                weight, bias, down, up = layer(dtype, device, rank=16)
                x = random(2, 5, 32, dtype=dtype, device=device)
                self.check(op,
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
        for linear in (rtlynx.linear24, rtlynx.linear24_auto):
            with self.assertRaisesRegex(RuntimeError,
                                        linear.__name__ + r": required weight .*\[24, 16\]"):
                linear(random(2, 32), random(24, 16))

    def test_auto_is_linear24_on_the_cpu(self):
        for dtype, norm in itertools.product(TYPES, (False, True)):
            arguments = random(2, 5, 32, dtype=dtype), *layer(dtype)
            self.assertTrue(torch.equal(rtlynx.linear24_auto(*arguments, norm=norm),
                                        rtlynx.linear24(*arguments, norm=norm)))

    def test_autocast_changes_nothing(self):
        for device in devices():
            x = random(6, 32, device=device)
            arguments = layer(torch.float32, device)
            for linear in (rtlynx.linear24, rtlynx.linear24_auto):
                expected = linear(x, *arguments)
                with torch.autocast(device, dtype=torch.bfloat16):
                    self.assertTrue(torch.equal(linear(x, *arguments), expected))

    def test_parameters_that_require_gradients(self):
        arguments = [a.requires_grad_() for a in layer(torch.float32)]
        x = random(6, 32)
        for linear in (rtlynx.linear24, rtlynx.linear24_auto):
            expected = linear(x, *[a.detach() for a in arguments])
            self.assertTrue(torch.equal(linear(x, *arguments).detach(), expected))
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

    # M, N, K and rank for which select_gemm24 cuts tiles along K, on an H200.
    STREAM_K = (1536, 3072, 3072, 64)

    def test_sparsify24(self):
        for dtype in TYPES:
            for x in (random(37, 3072, dtype=dtype), random(2, 5, 12, dtype=dtype),
                      random(9, 260, dtype=dtype)[:, 1:257], random(0, 16, dtype=dtype)):
                kept, scale = rtlynx.sparsify24(x)
                gpu_kept, gpu_scale = rtlynx.sparsify24(x.cuda())
                self.assertTrue(torch.equal(gpu_kept.cpu(), kept))
                torch.testing.assert_close(gpu_scale.cpu(), scale, rtol=1e-5, atol=0)

    def test_pack24(self):
        for dtype in NARROW_TYPES:
            for x in (random(130, 3072, dtype=dtype), random(2, 5, 48, dtype=dtype),
                      random(64, 16, dtype=dtype), random(0, 16, dtype=dtype)):
                values, metadata, scale = rtlynx.pack24(x)
                for gpu_x in (x.cuda(), shifted(x.cuda()), transposed(x.cuda())):
                    gpu_values, gpu_metadata, gpu_scale = rtlynx.pack24(gpu_x)
                    self.assertTrue(same_bits(gpu_values, values))
                    self.assertTrue(same_bits(gpu_metadata, metadata))
                    torch.testing.assert_close(gpu_scale.cpu(), scale, rtol=1e-5, atol=0)
                    kept = rtlynx.unpack24(gpu_values, gpu_metadata)
                    self.assertTrue(same_bits(kept, rtlynx.unpack24(values, metadata)))

    def test_unpack24_takes_any_strides(self):
        for dtype in NARROW_TYPES:
            values, metadata, _ = rtlynx.pack24(random(7, 80, dtype=dtype))
            expected = rtlynx.unpack24(values, metadata)
            for view in (transposed, shifted):
                kept = rtlynx.unpack24(view(values.cuda()), view(metadata.cuda()))
                self.assertTrue(same_bits(kept, expected))

    def test_metadata_that_packing_does_not_give_stays_in_its_group(self):
        values, metadata, _ = rtlynx.pack24(random(3, 32, dtype=torch.bfloat16, device="cuda"))
        expected = rtlynx.unpack24(values, metadata)
        metadata[1, 0] = metadata[1, 0] & ~0xf  # the first group keeps channel 0 twice
        kept = rtlynx.unpack24(values, metadata)
        kept[1, :4] = expected[1, :4]
        self.assertTrue(torch.equal(kept, expected))

    def test_packing_takes_16_bits_only(self):
        with self.assertRaisesRegex(RuntimeError, "pack24: required f16 or bf16 on a GPU.*f32"):
            rtlynx.pack24(random(2, 32, device="cuda"))
        values, metadata, _ = rtlynx.pack24(random(2, 32))
        with self.assertRaisesRegex(RuntimeError, "unpack24: required f16 or bf16 on a GPU.*f32"):
            rtlynx.unpack24(values.cuda(), metadata.cuda())

    def test_linear24(self):
        """As exact as a dense layer of the same type on the same GPU."""
        # Sparse Tensor Cores for 16 bits; a rank or N that they do not take; tiles left over; a
        # last wave that is cut along K.
        shapes = ((399, 136, 512, 16), (399, 136, 512, 8), (399, 132, 512, 16),
                  (399, 264, 336, 128), self.STREAM_K)
        for dtype, (m, n, k, rank) in itertools.product(TYPES, shapes):
            weight, bias, down, up = (a.cuda() for a in layer(dtype, k=k, n=n, rank=rank))
            x = random(3, m // 3, k, dtype=dtype, device="cuda")
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
                with self.subTest(dtype=dtype, shape=(m, n, k, rank), norm=norm, bias=with_bias,
                                  lora=with_lora):
                    self.assertEqual(y.dtype, dtype)
                    self.assertLessEqual(relative_error(y, exact), allowed)

    def test_linear24_of_views(self):
        """Copies are made of what is transposed or begins between two multiples of 16 bytes."""
        for dtype in NARROW_TYPES:
            x = random(70, 64, dtype=dtype, device="cuda")
            arguments = [a.cuda() for a in layer(dtype, k=64, n=40, rank=16)]
            expected = rtlynx.linear24(x, *arguments)
            for view in (transposed, shifted):
                y = rtlynx.linear24(view(x), *map(view, arguments))
                self.assertTrue(torch.equal(y, expected))

    def test_linear24_in_a_cuda_graph(self):
        for m, n, k, rank in ((70, 40, 64, 16), self.STREAM_K):
            x = random(m, k, dtype=torch.bfloat16, device="cuda")
            arguments = [a.cuda() for a in layer(torch.bfloat16, k=k, n=n, rank=rank)]
            expected = rtlynx.linear24(x, *arguments)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                y = rtlynx.linear24(x, *arguments)
            for _ in range(3):
                y.zero_()
                graph.replay()
                self.assertTrue(torch.equal(y, expected))

    def test_auto_is_the_dense_layer_where_that_is_faster(self):
        for dtype, shape in itertools.product(TYPES, ((1, 64), (2, 5, 64))):
            weight, bias, down, up = (a.cuda() for a in layer(dtype, k=64, n=40, rank=16))
            x = random(*shape, dtype=dtype, device="cuda")
            for b in (bias, None):
                y = rtlynx.linear24_auto(x, weight, b, down, up)
                self.assertTrue(torch.equal(y, torch.nn.functional.linear(x, weight, b)))

    @unittest.skipUnless(torch.cuda.is_available()
                         and torch.cuda.get_device_capability() == (9, 0),
                         "sparse kernels are measured on compute capability 9.0 only")
    def test_auto_is_linear24_where_that_is_faster(self):
        for dtype in NARROW_TYPES:
            m, n, k, rank = self.STREAM_K
            arguments = [a.cuda() for a in layer(dtype, k=k, n=n, rank=rank)]
            x = random(m, k, dtype=dtype, device="cuda")
            y = rtlynx.linear24_auto(x, *arguments)
            self.assertTrue(torch.equal(y, rtlynx.linear24(x, *arguments)))
            self.assertFalse(torch.equal(y, torch.nn.functional.linear(x, *arguments[:2])))

    def test_side_stream(self):
        for dtype in TYPES:
            x = random(64, 4096, dtype=dtype, device="cuda")
            weight = random(512, 4096, dtype=dtype, device="cuda")
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
