# SPDX-License-Identifier: Apache-2.0
"""What only a GPU can show: weights that move while kernels run, and compiled sparse layers."""

import unittest

import torch

import rtlynx
import tiny_models
from reference import Counts, reference_model, relative_error
from test_sparsify import random_compensation, run, sparsify

# Wide enough for the kernels' tiles, so that copies and kernels overlap.
WIDE = {"flux": dict(blocks=3, singles=3, attention_head_dim=64, num_attention_heads=16,
                     joint_attention_dim=256, axes_dims_rope=[8, 28, 28]),
        "qwen_image": dict(blocks=3, attention_head_dim=64, num_attention_heads=16,
                           axes_dims_rope=(8, 28, 28))}
PACKS = (3 * 21, 3 * 42)  # and weights, in three steps of FLUX's blocks
# Of bfloat16: a rounding decides some of the choices. A weight that has not arrived gives 1 or NaN.
BFLOAT16_ERROR = 5e-2


def arguments(family):
    if family == "flux":
        step = tiny_models.flux_arguments(image=1024, text=256)
        step["encoder_hidden_states"] = torch.randn(
            1, 256, 256, generator=torch.Generator().manual_seed(6))
    else:
        step = tiny_models.qwen_image_arguments(side=32, text=256)
        del step["encoder_hidden_states_mask"]
    return {name: value.to("cuda", torch.bfloat16 if value.is_floating_point() else None)
            if isinstance(value, torch.Tensor) else value for name, value in step.items()}


@unittest.skipUnless(torch.cuda.is_available(), "requires a GPU")
class OnGpuTest(unittest.TestCase):
    def setUp(self):
        torch._dynamo.reset()

    def sparse(self, family="flux", device="cuda"):
        """A sparsified model, its step and what that gives where nothing moves."""
        make = tiny_models.FAMILIES[family][0]
        model = make(**WIDE[family]).to("cuda", torch.bfloat16)
        sparsify(model, random_compensation(model, rank=16, block=16), keep_original=False)
        step = arguments(family)
        expected = run(model, step)
        return model.to(device), step, expected

    def check(self, model, step, expected):
        for _ in range(3):  # prefetching knows the order from the second on
            self.assertLess(relative_error(run(model, step), expected), BFLOAT16_ERROR)

    def test_is_the_method_in_plain_torch(self):
        for family in WIDE:
            with self.subTest(family):
                make = tiny_models.FAMILIES[family][0]
                model = make(**WIDE[family]).to("cuda", torch.bfloat16)
                twin = reference_model(make(**WIDE[family]).cuda(),
                                       sparsify(model).sparse_layers)
                step = arguments(family)
                exact = run(twin, {name: value.float() if isinstance(value, torch.Tensor)
                                   and value.is_floating_point() else value
                                   for name, value in step.items()})
                rtlynx.restore(model)
                dense = run(model, step)
                sparsify(model)
                self.assertLess(relative_error(run(model, step), exact),
                                relative_error(dense, exact) / 2)

    def test_group_offload(self):
        for kind in ("block_level", "leaf_level"):
            for stream in (False, True):
                for record in ((False, True) if stream else (False,)):
                    with self.subTest(kind, stream=stream, record=record):
                        model, step, expected = self.sparse(device="cpu")
                        model.enable_group_offload(
                            onload_device=torch.device("cuda"), offload_type=kind,
                            num_blocks_per_group=1, use_stream=stream, record_stream=record)
                        with Counts() as counts:
                            self.check(model, step, expected)
                        self.assertEqual((counts.packs, counts.weights), PACKS)

    def test_model_and_sequential_offload(self):
        from accelerate import cpu_offload, cpu_offload_with_hook
        for offload in (cpu_offload_with_hook, cpu_offload):
            with self.subTest(offload.__name__):
                model, step, expected = self.sparse(device="cpu")
                offload(model, torch.device("cuda"))
                self.check(model, step, expected)

    def test_compile(self):
        for family in WIDE:
            for whole in (False, True):
                with self.subTest(family, whole=whole):
                    torch._dynamo.reset()
                    model, step, expected = self.sparse(family)
                    (model.compile if whole else model.compile_repeated_blocks)(fullgraph=True)
                    self.check(model, step, expected)

    def test_compile_with_streams(self):
        model, step, expected = self.sparse(device="cpu")
        model.enable_group_offload(onload_device=torch.device("cuda"), offload_type="block_level",
                                   num_blocks_per_group=1, use_stream=True)
        model.compile_repeated_blocks()
        self.check(model, step, expected)

    def test_layerwise_casting(self):
        model, step, expected = self.sparse()
        model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn,
                                       compute_dtype=torch.bfloat16)
        self.assertLess(relative_error(run(model, step), expected), 0.3)


if __name__ == "__main__":
    unittest.main()
