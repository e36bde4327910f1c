// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include "base/image.h"
#include "base/libtorch.h"

namespace rtlynx {

/// The network behind picture_features, for reports: distances under different names must not be
/// compared.
inline constexpr std::string_view kPictureFeatures = "rtlynx-random-conv-1";
inline constexpr std::int64_t kPictureFeatureCount = 96;

/// What the Frechet distance of this project looks at -> [n, 96] fp32 on the CPU. It is ours and
/// not Inception: no downloaded weights, and no number under it can stand beside a published FID.
///
/// Pictures in [-1, 1] go through three convolutions with stride 2 and ReLU, 3 -> 16 channels of
/// 5x5, 16 -> 32 and 32 -> 48 of 3x3, without padding or bias. Their weights are random and fixed:
/// uniform within +-sqrt(6 / fan-in), from Rng(1) in the order of [out, in, row, column], layer by
/// layer. The features are the means over all positions of the three layers' outputs: fine detail,
/// edges, and shapes of about 17 pixels. Throws Error unless all pictures have one size of at least
/// 17x17.
torch::Tensor picture_features(const std::vector<Image>& pictures);

}  // namespace rtlynx
