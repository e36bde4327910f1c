# SPDX-License-Identifier: Apache-2.0
"""diffusers' caches on a sparsified model."""

import copy
import unittest

import torch

import tiny_models
from reference import Counts, reference_model, relative_error
from test_sparsify import FLOAT32_ERROR, run, sparsify


class CacheTest(unittest.TestCase):
    """Two double and two single blocks, six steps: 84 packs without a cache."""

    STEPS = 6

    def packs(self, config):
        """Checks the last result against the method in plain torch under the same cache."""
        model = tiny_models.flux(blocks=2, singles=2)
        twin = copy.deepcopy(model)
        expected = self.last(reference_model(twin, sparsify(model).sparse_layers), config())
        with Counts() as counts:
            self.assertLess(relative_error(self.last(model, config()), expected), FLOAT32_ERROR)
        return counts.packs

    def last(self, model, config):
        model.enable_cache(config)
        for index in range(self.STEPS):
            step = tiny_models.flux_arguments()
            self.timestep = 999 - 10 * index
            step["timestep"].fill_(self.timestep / 1000)
            with model.cache_context("cond"):
                result = run(model, step)
        return result

    def test_first_block_cache(self):
        from diffusers import FirstBlockCacheConfig
        # One step in full; of the later ones the first block.
        self.assertEqual(self.packs(lambda: FirstBlockCacheConfig(threshold=0.5)), 14 + 5 * 6)

    def test_taylor_seer(self):
        from diffusers import TaylorSeerCacheConfig
        packs = self.packs(lambda: TaylorSeerCacheConfig(
            cache_interval=2, disable_cache_before_step=1, max_order=1))
        self.assertLess(packs, 84)

    def test_mag_cache(self):
        from diffusers import MagCacheConfig
        packs = self.packs(lambda: MagCacheConfig(
            num_inference_steps=self.STEPS, mag_ratios=torch.ones(self.STEPS)))
        self.assertLess(packs, 84)

    # Both skip the attention, but FLUX's single blocks read proj_mlp beside it, which shares its pack.
    def test_pyramid_attention_broadcast(self):
        from diffusers import PyramidAttentionBroadcastConfig
        self.assertEqual(self.packs(lambda: PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2, spatial_attention_timestep_skip_range=(-1, 1001),
            current_timestep_callback=lambda: self.timestep)), 3 * 14 + 3 * 10)

    def test_faster_cache(self):
        from diffusers import FasterCacheConfig
        # It extrapolates from two steps: the first two are outside its range.
        self.assertEqual(self.packs(lambda: FasterCacheConfig(
            spatial_attention_block_skip_range=2, spatial_attention_timestep_skip_range=(-1, 985),
            current_timestep_callback=lambda: self.timestep,
            is_guidance_distilled=True)), 4 * 14 + 2 * 10)


if __name__ == "__main__":
    unittest.main()
