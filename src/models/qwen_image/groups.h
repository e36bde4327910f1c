// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "models/double_block_groups.h"
#include "models/layer_group.h"
#include "models/qwen_image/config.h"

namespace rtlynx {

inline constexpr DoubleBlockNames kQwenImageBlock{
    .text = {.modulation = "txt_mod.1", .mlp = "txt_mlp"},
    .image = {.modulation = "img_mod.1", .mlp = "img_mlp"}};

/// The groups of Qwen-Image's blocks, in the order in which they run. Embedders, modulation and the
/// output, which see few channels or one row per image, are in none. Nothing reads what the last
/// block's text attention out and text MLP give; they are listed as the checkpoint has them.
std::vector<LayerGroup> qwen_image_groups(const QwenImageConfig& config);

}  // namespace rtlynx
