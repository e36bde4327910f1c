// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace rtlynx {

inline constexpr int kLeaves = 20;

/// Draws "dead leaves" (Lee, Mumford and Huang 2001) over a picture: 1/f noise, then kLeaves
/// ellipses, rectangles and triangles, each over the last, with a colour, a sine grating and some
/// of the noise. Such pictures use many directions, as photographs do. Integer arithmetic
/// throughout; the seed decides all. `rgb` is [side, side, 3], row-major.
void draw_leaves(std::uint64_t seed, int side, std::span<std::uint8_t> rgb);

}  // namespace rtlynx
