// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include "step_benchmark/flux_step.h"
#include "step_benchmark/qwen_image_step.h"
#include "step_benchmark/z_image_step.h"

namespace rtlynx::step_benchmark {

/// For the tests that every family has to pass.
using Families = testing::Types<FluxFamily, QwenImageFamily, ZImageFamily>;

/// Two or three blocks of each kind, two or three heads of 64.
inline FluxConfig small(const FluxFamily&) {
  return {.in_channels = 16,
          .out_channels = 16,
          .num_layers = 2,
          .num_single_layers = 2,
          .attention_head_dim = 64,
          .num_attention_heads = 2,
          .joint_attention_dim = 32,
          .pooled_projection_dim = 16,
          .guidance_embeds = true,
          .axes_dims_rope = {16, 24, 24}};
}

inline QwenImageConfig small(const QwenImageFamily&) {
  return {.num_layers = 3,
          .attention_head_dim = 64,
          .num_attention_heads = 2,
          .joint_attention_dim = 32,
          .axes_dims_rope = {16, 24, 24}};
}

inline ZImageConfig small(const ZImageFamily&) {
  return {.dim = 192,
          .n_layers = 2,
          .n_refiner_layers = 1,
          .n_heads = 3,
          .cap_feat_dim = 32,
          .axes_dims = {16, 24, 24}};
}

}  // namespace rtlynx::step_benchmark
