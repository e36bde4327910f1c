// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/image.h"

namespace rtlynx {

/// One picture of panels with gaps of two white pixels: `dense`, `sparse`, perhaps `other`, and
/// four times the absolute difference of the first two (saturated). Throws Error if the sizes
/// differ.
Image side_by_side(const Image& dense, const Image& sparse, const Image* other = nullptr);

/// The width of such a picture for panels of `width`.
int side_by_side_width(int width, bool with_other = false);

/// Every pixel becomes a block of factor x factor.
Image enlarge(const Image& image, int factor);

/// Every full square of factor x factor pixels becomes their mean; what is left at the right and
/// below is cut off. Throws Error if nothing would be left.
Image reduce(const Image& image, int factor);

}  // namespace rtlynx
