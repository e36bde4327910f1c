// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/image.h"

namespace rtlynx {

inline std::string size_text(const Image& image) {
  return std::to_string(image.width) + "x" + std::to_string(image.height);
}

/// Throws Error unless both pictures have one size, `min_side` pixels or more each way.
inline void require_same_size(std::string_view op, const Image& a, const Image& b, int min_side) {
  if (a.width != b.width || a.height != b.height)
    fail(op, "pictures of one size", size_text(a) + " and " + size_text(b));
  if (a.width < min_side || a.height < min_side) {
    const std::string side = std::to_string(min_side);
    fail(op, "pictures of at least " + side + "x" + side, size_text(a));
  }
}

}  // namespace rtlynx
