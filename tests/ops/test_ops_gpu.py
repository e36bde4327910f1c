# SPDX-License-Identifier: Apache-2.0
"""The operators on a GPU as Python sees them: streams, graphs, devices, refusals."""

import unittest

import torch

import rtlynx
from op_samples import random


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
