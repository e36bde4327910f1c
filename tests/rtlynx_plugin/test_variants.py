# SPDX-License-Identifier: Apache-2.0
"""The models of each family that take other inputs: through their pipelines where these need no other model."""

import copy
import unittest

import torch

import rtlynx
import tiny_models
from reference import reference_model, relative_error
from test_sparsify import FLOAT32_ERROR, SHARED, counted, run, sparsify


def random(*shape, seed=9):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class VariantTest(unittest.TestCase):
    def check(self, model, step, counts):
        """Sparse as in plain torch, with as many packs and weights as the family's first model."""
        twin = copy.deepcopy(model)
        expected = run(reference_model(twin, sparsify(model).sparse_layers), step)
        result, got = counted(model, step)
        self.assertEqual(got, counts)
        self.assertLess(relative_error(result, expected), FLOAT32_ERROR)

    def test_flux_dev(self):
        # FLUX.1-schnell, without guidance, is the tiny model of all other tests.
        model = tiny_models.flux(guidance_embeds=True)
        self.check(model, {**tiny_models.flux_arguments(), "guidance": torch.tensor([3.5])}, SHARED)

    def test_flux_control(self):
        # The picture to follow is beside the noise, in channels of its own.
        step = tiny_models.flux_arguments()
        step["hidden_states"] = torch.cat([step["hidden_states"], random(1, 16, 4)], -1)
        self.check(tiny_models.flux(in_channels=8, out_channels=4), step, SHARED)

    def test_flux_kontext(self):
        # The picture to change is behind the noise, as tokens of its own.
        step = tiny_models.flux_arguments()
        step["hidden_states"] = torch.cat([step["hidden_states"], random(1, 24, 4)], 1)
        step["img_ids"] = torch.cat([step["img_ids"], random(24, 3)])
        self.check(tiny_models.flux(), step, SHARED)

    def test_qwen_image_edit(self):
        two = [(1, 4, 4), (1, 2, 6)]
        for name, shapes, options in (("Edit", two, {}), ("Edit-Plus", [*two, (1, 4, 2)], {}),
                                      ("Edit-2511", two, dict(zero_cond_t=True))):
            with self.subTest(name):
                step = tiny_models.qwen_image_arguments()
                tokens = sum(rows * columns for _, rows, columns in shapes)
                step |= {"hidden_states": random(1, tokens, 16), "img_shapes": [shapes]}
                self.check(tiny_models.qwen_image(**options), step, (12, 20))


class PipelineTest(unittest.TestCase):
    """What a pipeline draws is what the method in plain torch would have drawn."""

    def check(self, draw, transformer):
        dense = draw(transformer)
        twin = copy.deepcopy(transformer)
        expected = draw(reference_model(twin, sparsify(transformer).sparse_layers))
        result = draw(transformer)
        self.assertLess(relative_error(result, expected), FLOAT32_ERROR)
        self.assertGreater(relative_error(result, dense), 1e-4)

    def test_kontext(self):
        from diffusers import FluxKontextPipeline

        def draw(transformer):
            pipe = tiny_models.flux_pipeline(transformer, FluxKontextPipeline, image_encoder=None,
                                             feature_extractor=None)
            return pipe(image=random(1, 16, 4, 6), prompt_embeds=random(1, 48, 32),
                        pooled_prompt_embeds=random(1, 32), latents=random(1, 16, 64), height=64,
                        width=64, max_area=64 * 64, num_inference_steps=2,
                        output_type="latent").images

        self.check(draw, tiny_models.flux(in_channels=64, guidance_embeds=True))

    def test_schnell(self):
        from diffusers import FluxPipeline

        def draw(transformer):
            pipe = tiny_models.flux_pipeline(transformer, FluxPipeline)
            return pipe(prompt_embeds=random(1, 48, 32), pooled_prompt_embeds=random(1, 32),
                        latents=random(1, 16, 4), height=64, width=64, guidance_scale=0.0,
                        num_inference_steps=4, output_type="latent").images

        self.check(draw, tiny_models.flux())

    def test_z_image(self):
        from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline

        def drawing(guidance_scale):
            def draw(transformer):
                pipe = ZImagePipeline(scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=None,
                                      text_encoder=None, tokenizer=None, transformer=transformer)
                pipe.set_progress_bar_config(disable=True)
                return pipe(prompt_embeds=[random(8, 16)], negative_prompt_embeds=[random(5, 16)],
                            latents=random(1, 16, 8, 8), height=64, width=64,
                            guidance_scale=guidance_scale, num_inference_steps=2,
                            output_type="latent").images
            return draw

        for name, guidance_scale in (("Turbo", 0.0), ("guided", 4.0)):
            with self.subTest(name):
                self.check(drawing(guidance_scale), tiny_models.z_image())


class ControlLoraTest(unittest.TestCase):
    """FLUX.1's Canny and Depth LoRAs, whose picture to follow makes x_embedder wider."""

    RANK = 4

    def state(self):
        state = {}
        for name, outputs, channels in (("x_embedder", 32, 8),
                                        ("transformer_blocks.0.attn.to_q", 32, 32),
                                        ("single_transformer_blocks.0.proj_mlp", 128, 32)):
            key = f"transformer.{name}.lora_"
            state |= {f"{key}A.weight": 0.3 * random(self.RANK, channels, seed=1),
                      f"{key}B.weight": 0.3 * random(outputs, self.RANK, seed=2)}
        return state

    def test_loads_before_and_after(self):
        from diffusers import FluxControlPipeline
        step = tiny_models.flux_arguments()
        wide = {**step, "hidden_states": torch.cat([step["hidden_states"], random(1, 16, 4)], -1)}
        results = []
        for sparse_first in (True, False):
            model = tiny_models.flux(out_channels=4)
            pipe = tiny_models.flux_pipeline(model, FluxControlPipeline)
            if sparse_first:
                sparsify(model)
                plain = run(model, step)
            pipe.load_lora_weights(self.state(), adapter_name="canny")
            if not sparse_first:
                sparsify(model)
            self.assertEqual(len(rtlynx.report(model).sparse_layers), SHARED[1])
            result, counts = counted(model, wide)
            self.assertEqual(counts, SHARED)
            results.append(result)
            if sparse_first:
                pipe.unload_lora_weights(reset_to_overwritten_params=True)
                self.assertTrue(torch.equal(run(model, step), plain))
        self.assertLess(relative_error(results[0], results[1]), FLOAT32_ERROR)


if __name__ == "__main__":
    unittest.main()
