// SPDX-License-Identifier: Apache-2.0
#include "models/qwen_image/groups.h"

#include <string>

namespace rtlynx {

std::vector<LayerGroup> qwen_image_groups(const QwenImageConfig& config) {
  std::vector<LayerGroup> groups;
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    BlockGroups(config.hidden_dim(), config.attention_head_dim,
                "transformer_blocks." + std::to_string(i) + ".", groups)
        .add_double_block(kQwenImageBlock);
  }
  return groups;
}

}  // namespace rtlynx
