// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "models/double_block_groups.h"
#include "models/flux/config.h"
#include "models/layer_group.h"

namespace rtlynx {

inline constexpr DoubleBlockNames kFluxDoubleBlock{
    .text = {.modulation = "norm1_context.linear", .mlp = "ff_context"},
    .image = {.modulation = "norm1.linear", .mlp = "ff"}};

/// The groups of FLUX.1's blocks, in the order in which they run. Embedders, modulation and the
/// output, which see few channels or one row per image, are in none.
std::vector<LayerGroup> flux_groups(const FluxConfig& config);

}  // namespace rtlynx
