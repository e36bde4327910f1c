// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "base/image.h"
#include "base/libtorch.h"
#include "models/patches.h"

namespace rtlynx {

/// fp32 pictures [B, 3, H, W] in [-1, 1] (clamped) to 8-bit images, rounded to nearest.
std::vector<Image> images_from_pixels(const torch::Tensor& pixels);

/// 8-bit pictures [B, H, W, 3] to fp32 [B, 3, H, W] in [-1, 1].
torch::Tensor pixels_from_bytes(const torch::Tensor& bytes);

/// The same for images; throws Error unless there is one and all have one size.
torch::Tensor pixels_from_images(std::span<const Image> images);

}  // namespace rtlynx
