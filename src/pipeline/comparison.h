// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/image.h"

namespace rtlynx {

/// One picture of three panels: `dense`, `sparse` and four times their absolute difference
/// (saturated), with a gap of two white pixels between them. Throws Error if the sizes differ.
Image side_by_side(const Image& dense, const Image& sparse);

/// The width of that picture for panels of `width`.
int side_by_side_width(int width);

/// Every pixel becomes a block of factor x factor.
Image enlarge(const Image& image, int factor);

}  // namespace rtlynx
