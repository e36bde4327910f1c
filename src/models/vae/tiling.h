// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/libtorch.h"

namespace rtlynx {

/// A stretch of rows or columns of latents.
struct TileSpan {
  std::int64_t start = 0;
  std::int64_t size = 0;

  std::int64_t end() const { return start + size; }
};

/// The fewest equal tiles of at most `tile` that cover `length`, neighbours sharing at least
/// `overlap`. One span where `length` fits a tile. Throws Error unless 0 <= overlap < tile.
std::vector<TileSpan> tile_spans(std::int64_t length, std::int64_t tile, std::int64_t overlap);

/// What a tile is cut out of and what becomes of it, in rows or columns for each one of latents.
struct TileScale {
  std::int64_t input = 1;
  std::int64_t output = 1;
};

/// Runs `process` on the tiles of x [1, C, H, W] and puts the results [1, C', ...] together. Where
/// tiles overlap the later one fades in linearly: over the tile above, then over the tile to the
/// left, each as it has become, as in diffusers.
torch::Tensor run_tiled(const torch::Tensor& x, const std::vector<TileSpan>& rows,
                        const std::vector<TileSpan>& columns, TileScale scale,
                        const std::function<torch::Tensor(const torch::Tensor& tile)>& process);

}  // namespace rtlynx
