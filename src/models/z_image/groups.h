// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "models/layer_group.h"
#include "models/z_image/config.h"

namespace rtlynx {

/// The groups of Z-Image's blocks, in the order in which they run: noise refiner (image tokens),
/// context refiner (caption), layers (both). Embedders, modulation and the output are in none.
std::vector<LayerGroup> z_image_groups(const ZImageConfig& config);

}  // namespace rtlynx
