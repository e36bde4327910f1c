// SPDX-License-Identifier: Apache-2.0
#include "models/vae/tiling.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kRows = 2, kColumns = 3;  // dimensions of [1, C, H, W]

/// `whole`, which ends at `end` along `dimension`, continued by `tile`, which starts at `start`.
torch::Tensor append(const torch::Tensor& whole, const torch::Tensor& tile, std::int64_t start,
                     std::int64_t dimension) {
  const std::int64_t shared = whole.size(dimension) - start;
  if (shared <= 0) return torch::cat({whole, tile}, dimension);
  std::vector<std::int64_t> shape(4, 1);
  shape[static_cast<std::size_t>(dimension)] = shared;
  const torch::Tensor share =
      (torch::arange(shared, tile.options().dtype(torch::kFloat32)) / static_cast<double>(shared))
          .reshape(shape)
          .to(tile.scalar_type());
  const torch::Tensor before = whole.narrow(dimension, start, shared);
  const torch::Tensor after = tile.narrow(dimension, 0, shared);
  return torch::cat({whole.narrow(dimension, 0, start), before * (1 - share) + after * share,
                     tile.narrow(dimension, shared, tile.size(dimension) - shared)},
                    dimension);
}

}  // namespace

std::vector<TileSpan> tile_spans(std::int64_t length, std::int64_t tile, std::int64_t overlap) {
  require(overlap >= 0 && overlap < tile, "tiles", "0 <= overlap < tile",
          "overlap " + std::to_string(overlap) + ", tile " + std::to_string(tile));
  if (length <= tile) return {{.start = 0, .size = length}};
  const std::int64_t step = tile - overlap;
  const std::int64_t count = (length - overlap + step - 1) / step;
  const std::int64_t size = (length + (count - 1) * overlap + count - 1) / count;
  std::vector<TileSpan> spans;
  for (std::int64_t i = 0; i < count; ++i) {
    spans.push_back({.start = std::min(i * (size - overlap), length - size), .size = size});
  }
  return spans;
}

torch::Tensor run_tiled(const torch::Tensor& x, const std::vector<TileSpan>& rows,
                        const std::vector<TileSpan>& columns, TileScale scale,
                        const std::function<torch::Tensor(const torch::Tensor&)>& process) {
  torch::Tensor picture;
  for (const TileSpan& row : rows) {
    const torch::Tensor band = x.narrow(kRows, row.start * scale.input, row.size * scale.input);
    torch::Tensor strip;
    for (const TileSpan& column : columns) {
      const torch::Tensor tile =
          process(band.narrow(kColumns, column.start * scale.input, column.size * scale.input));
      strip = strip.defined() ? append(strip, tile, column.start * scale.output, kColumns) : tile;
    }
    picture = picture.defined() ? append(picture, strip, row.start * scale.output, kRows) : strip;
  }
  return picture;
}

}  // namespace rtlynx
