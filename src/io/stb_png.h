// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "base/image.h"

// All that is used of the stb headers.
namespace rtlynx::stb {

/// `image` must have pixels, and fewer than 2^31 bytes of them.
std::vector<std::byte> encode_png(const Image& image);
/// Does not verify checksums.
Image decode_png(std::span<const std::byte> png, std::string_view what);

}  // namespace rtlynx::stb
