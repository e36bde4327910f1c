// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/qwen_image/config.h"

namespace rtlynx::test {

/// One block, 2 heads of 16.
inline QwenImageConfig small_qwen_image_config() {
  return {.in_channels = 8,
          .out_channels = 2,
          .num_layers = 1,
          .attention_head_dim = 16,
          .num_attention_heads = 2,
          .joint_attention_dim = 12,
          .axes_dims_rope = {4, 6, 6}};
}

}  // namespace rtlynx::test
