# SPDX-License-Identifier: Apache-2.0
"""What a user does with a pipeline, on sparsified models: with the packs and products counted."""

import contextlib
import copy
import inspect
import unittest
from unittest import mock

import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import (AttentionBackendName,
                                                   _AttentionBackendRegistry)
from torch._dynamo.testing import CompileCounterWithBackend

import tiny_models
from reference import relative_error
from test_lora import add_lora
from test_sparsify import SHARED, counted, random_compensation, run, sparsify
from tiny_models import FAMILIES


class CompileTest(unittest.TestCase):
    def setUp(self):
        torch._dynamo.reset()

    def compile(self, model, step, expected, **options):
        counter = CompileCounterWithBackend("aot_eager")
        model.compile(backend=counter, **options)
        with torch.no_grad():
            self.assertLess(relative_error(run(model, step), expected), 1e-5)
            graphs = counter.frame_count
            run(model, step)
        self.assertEqual(counter.frame_count, graphs)
        return counter

    def test_fullgraph_shares_packs(self):
        for name, packs, products in (("flux", 7, 7), ("qwen_image", 12, 12)):
            with self.subTest(name):
                make, arguments = FAMILIES[name]
                model, step = make(), arguments()
                sparsify(model, random_compensation(model))
                counter = self.compile(model, step, run(model, step), fullgraph=True)
                code = "".join(graph.code for graph in counter.graphs)
                self.assertEqual(code.count("ops.rtlynx.pack"), packs)
                self.assertEqual(code.count("ops.rtlynx.product"), products)

    def test_repeated_blocks_make_as_many_graphs_as_dense_ones(self):
        for name, options in (("flux", dict(blocks=3, singles=3)), ("qwen_image", dict(blocks=3)),
                              ("z_image", dict(blocks=3))):
            with self.subTest(name):
                make, arguments = FAMILIES[name]
                graphs = []
                for sparse in (False, True):
                    torch._dynamo.reset()
                    model, step = make(**options), arguments()
                    if sparse:
                        sparsify(model, random_compensation(model))
                    expected = run(model, step)
                    counter = CompileCounterWithBackend("aot_eager")
                    model.compile_repeated_blocks(backend=counter, fullgraph=True)
                    for _ in range(2):
                        self.assertLess(relative_error(run(model, step), expected), 1e-5)
                    graphs.append(counter.frame_count)
                self.assertLessEqual(graphs[1], graphs[0])

    def test_dynamic_shapes_make_as_many_graphs_as_dense_ones(self):
        graphs = []
        for sparse in (False, True):
            torch._dynamo.reset()
            model = tiny_models.flux()
            if sparse:
                sparsify(model)
            counter = CompileCounterWithBackend("aot_eager")
            steps = [tiny_models.flux_arguments(image=image, text=text)
                     for image, text in ((16, 8), (24, 10), (36, 12))]
            expected = [run(model, step) for step in steps]
            model.compile(backend=counter, dynamic=True)
            counts = []
            for step, value in zip(steps, expected):
                self.assertLess(relative_error(run(model, step), value), 1e-5)
                counts.append(counter.frame_count)
            self.assertEqual(counts[-1], counts[0])  # later shapes make none
            graphs.append(counts[-1])
        self.assertEqual(graphs[1], graphs[0])

    def test_inductor(self):
        model, step = tiny_models.qwen_image(blocks=1), tiny_models.qwen_image_arguments()
        sparsify(model)
        expected = run(model, step)
        model.compile_repeated_blocks(fullgraph=True)
        self.assertLess(relative_error(run(model, step), expected), 1e-4)

    def test_adapters_after_compiling(self):
        model, step = tiny_models.flux(), tiny_models.flux_arguments()
        sparsify(model)
        add_lora(model)
        expected = run(model, step)
        model.compile_repeated_blocks(backend="aot_eager", fullgraph=True)
        self.assertLess(relative_error(run(model, step), expected), 1e-5)
        model.disable_adapters()
        without = run(model, step)
        self.assertGreater(relative_error(without, expected), 1e-3)


class OffloadTest(unittest.TestCase):
    """On the CPU both devices are one; what moves is tested on GPUs."""

    def setUp(self):
        self.model, self.step = tiny_models.flux(), tiny_models.flux_arguments()
        sparsify(self.model, random_compensation(self.model))
        self.expected = run(self.model, self.step)

    def check(self, counts=SHARED):
        result, got = counted(self.model, self.step)
        self.assertTrue(torch.equal(result, self.expected))
        self.assertEqual(got, counts)

    def test_group_offload(self):
        for kind in ("block_level", "leaf_level"):
            with self.subTest(kind):
                self.setUp()
                self.model.enable_group_offload(
                    onload_device=torch.device("cpu"), offload_type=kind, num_blocks_per_group=1)
                self.check()

    def test_sequential(self):
        from accelerate import cpu_offload
        cpu_offload(self.model, torch.device("cpu"))
        self.assertEqual(self.model.transformer_blocks[0].attn.to_q.weight.device.type, "meta")
        result, _ = counted(self.model, self.step)
        self.assertTrue(torch.equal(result, self.expected))

    def test_model_offload(self):
        from accelerate import cpu_offload_with_hook
        cpu_offload_with_hook(self.model, torch.device("cpu"))
        self.check()

    def test_layerwise_casting(self):
        model = tiny_models.flux().to(torch.bfloat16)
        step = tiny_models.flux_arguments(dtype=torch.bfloat16)
        dense = run(model, step)
        sparsify(model)
        model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn,
                                       compute_dtype=torch.bfloat16)
        self.assertEqual(model.transformer_blocks[0].attn.to_q.weight.dtype, torch.float8_e4m3fn)
        result, counts = counted(model, step)
        self.assertEqual(counts, SHARED)
        self.assertLess(relative_error(result, dense), 0.3)

    def test_layerwise_casting_keeps_the_low_rank(self):
        self.model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn,
                                            compute_dtype=torch.float32)
        layer = self.model.transformer_blocks[0].attn.to_q
        self.assertEqual({layer.lynx_up.dtype, layer.lynx_down.dtype, layer.lynx_transform.dtype},
                         {torch.float32})


class PipelineTest(unittest.TestCase):
    def test_a_picture_and_from_pipe(self):
        from diffusers import FluxPipeline
        transformer = tiny_models.flux()
        pipe = tiny_models.flux_pipeline(transformer)
        generator = torch.Generator().manual_seed(2)
        prompt = dict(prompt_embeds=torch.randn(1, 48, 32, generator=generator),
                      pooled_prompt_embeds=torch.randn(1, 32, generator=generator),
                      latents=torch.randn(1, 16, 4, generator=generator), height=64, width=64,
                      num_inference_steps=2, output_type="latent")
        dense = pipe(**prompt).images
        sparsify(transformer)
        sparse = pipe(**prompt).images
        self.assertGreater(relative_error(sparse, dense), 1e-4)
        again = FluxPipeline.from_pipe(pipe)
        self.assertTrue(torch.equal(again(**prompt).images, sparse))

    def test_projections_fused_before(self):
        model, step = tiny_models.flux(), tiny_models.flux_arguments()
        model.fuse_qkv_projections()
        dense = run(model, step)
        report = sparsify(model)
        self.assertIn("transformer_blocks.0.attn.to_qkv", report.sparse_layers)
        self.assertNotIn("transformer_blocks.0.attn.to_q", report.sparse_layers)
        result, counts = counted(model, step)
        self.assertEqual(counts, (7, 8))
        self.assertLess(relative_error(result, dense), 0.3)

    def test_controlnet_residuals(self):
        from diffusers import FluxControlNetModel
        torch.manual_seed(1)
        config = {key: value for key, value in tiny_models.flux().config.items()
                  if key in ("patch_size", "in_channels", "num_layers", "num_single_layers",
                             "attention_head_dim", "num_attention_heads", "joint_attention_dim",
                             "pooled_projection_dim", "axes_dims_rope")}
        net, step = FluxControlNetModel(**config).eval(), tiny_models.flux_arguments()
        with torch.no_grad():
            for layer in [*net.controlnet_blocks, *net.controlnet_single_blocks]:
                layer.weight.normal_()
            extra = net(controlnet_cond=step["hidden_states"], **step)
        model = tiny_models.flux()
        sparsify(model)
        plain = run(model, step)
        controlled, counts = counted(model, {
            **step, "controlnet_block_samples": extra[0], "controlnet_single_block_samples": extra[1]})
        self.assertEqual(counts, SHARED)
        self.assertGreater(relative_error(controlled, plain), 1e-3)

    def test_ip_adapter(self):
        model, step = tiny_models.flux(), tiny_models.flux_arguments()
        sparsify(model)
        plain = run(model, step)
        torch.manual_seed(4)
        model._load_ip_adapter_weights({  # what load_ip_adapter calls with the file
            "image_proj": {"proj.weight": torch.randn(4 * 32, 16), "proj.bias": torch.randn(4 * 32),
                           "norm.weight": torch.ones(32), "norm.bias": torch.zeros(32)},
            "ip_adapter": {f"0.{name}_ip.{part}": torch.randn(*shape) for name in ("to_k", "to_v")
                           for part, shape in (("weight", (32, 32)), ("bias", (32,)))}})
        picture = {"ip_adapter_image_embeds": [torch.randn(1, 1, 16)]}
        result, counts = counted(model, {**step, "joint_attention_kwargs": picture})
        self.assertEqual(counts, SHARED)
        self.assertGreater(relative_error(result, plain), 1e-3)

    def test_own_processors_stay(self):
        from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

        class Own(FluxAttnProcessor):
            pass

        model, step = tiny_models.flux(), tiny_models.flux_arguments()
        model.set_attn_processor(Own())
        sparsify(model)
        self.assertEqual(counted(model, step)[1], SHARED)
        self.assertEqual({type(value) for value in model.attn_processors.values()}, {Own})

    def test_deep_copies_do_not_share(self):
        model, step = tiny_models.flux(), tiny_models.flux_arguments()
        sparsify(model)
        twin = copy.deepcopy(model)
        with torch.no_grad():
            twin.transformer_blocks[0].attn.to_k.weight.zero_()
        self.assertFalse(torch.equal(run(twin, step), run(model, step)))


class AttentionBackendTest(unittest.TestCase):
    """Attention is none of the plug-in's business: whatever computes it gets the same q, k and v."""

    def setUp(self):
        # set_attention_backend is for later models of the process as well.
        patch = mock.patch.object(_AttentionBackendRegistry, "_active_backend")
        patch.start()
        self.addCleanup(patch.stop)

    def kernel(self, query, key, value, attn_mask=None, is_causal=False, scale=None,
               return_lse=False, _parallel_config=None):
        """Stands for a package's: [B, S, heads, D] in and out."""
        self.calls.append(query.shape)
        q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)

    def check(self, choose, calls=2):
        """FLUX, whose double and single block call it once each."""
        _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)
        self.calls = []
        model, step = tiny_models.flux(), tiny_models.flux_arguments()
        sparsify(model, random_compensation(model))
        expected = run(model, step)
        with choose(model):
            result, counts = counted(model, step)
        self.assertEqual(counts, SHARED)
        self.assertLess(relative_error(result, expected), 1e-4)
        self.assertEqual(len(self.calls), calls)

    @contextlib.contextmanager
    def registered(self, name, model):
        """The kernel in place of a backend whose package is not here."""
        backend, registry = AttentionBackendName(name), _AttentionBackendRegistry
        names = list(inspect.signature(self.kernel).parameters)
        with mock.patch.dict(registry._backends, {backend: self.kernel}), \
                mock.patch.dict(registry._constraints, {backend: []}), \
                mock.patch.dict(registry._supported_arg_names, {backend: names}), \
                mock.patch.object(attention_dispatch, "_check_attention_backend_requirements"):
            model.set_attention_backend(name)
            yield

    def test_sage_and_flash_attention_3(self):
        for name in ("sage", "_sage_qk_int8_pv_fp8_cuda_sm90", "_flash_3", "flash"):
            with self.subTest(name):
                self.check(lambda model: self.registered(name, model))

    def test_sparge(self):
        # No backend of diffusers: it is put in place of torch's function.
        original = torch.nn.functional.scaled_dot_product_attention

        def sparge(*args, **options):
            self.calls.append(args)
            return original(*args, **options)

        self.check(lambda model: mock.patch.object(
            torch.nn.functional, "scaled_dot_product_attention", sparge))

    def test_torchs_own(self):
        def choose(model):
            model.set_attention_backend("_native_math")
            return contextlib.nullcontext()
        self.check(choose, calls=0)


if __name__ == "__main__":
    unittest.main()
