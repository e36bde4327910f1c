// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/flux/config.h"

namespace rtlynx::test {

/// One block of each kind, 2 heads of 16.
inline FluxConfig small_flux_config() {
  return {.in_channels = 8,
          .out_channels = 8,
          .num_layers = 1,
          .num_single_layers = 1,
          .attention_head_dim = 16,
          .num_attention_heads = 2,
          .joint_attention_dim = 12,
          .pooled_projection_dim = 12,
          .axes_dims_rope = {4, 6, 6}};
}

}  // namespace rtlynx::test
