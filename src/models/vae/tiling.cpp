// SPDX-License-Identifier: Apache-2.0
#include "models/vae/tiling.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kRows = 2, kColumns = 3;  // dimensions of [1, C, H, W]

/// `tile`, whose first `shared` rows or columns lie over the last of `before`: it fades in there.
torch::Tensor faded_in(const torch::Tensor& tile, const torch::Tensor& before, std::int64_t shared,
                       std::int64_t dimension) {
  if (shared <= 0) return tile;
  std::vector<std::int64_t> shape(4, 1);
  shape[static_cast<std::size_t>(dimension)] = shared;
  const torch::Tensor share =
      (torch::arange(shared, tile.options().dtype(torch::kFloat32)) / static_cast<double>(shared))
          .reshape(shape)
          .to(tile.scalar_type());
  const torch::Tensor old = before.narrow(dimension, before.size(dimension) - shared, shared);
  const torch::Tensor fresh = tile.narrow(dimension, 0, shared);
  return torch::cat({old * (1 - share) + fresh * share,
                     tile.narrow(dimension, shared, tile.size(dimension) - shared)},
                    dimension);
}

/// How much of span i lies over the one before it.
std::int64_t shared_with_last(const std::vector<TileSpan>& spans, std::size_t i) {
  return i == 0 ? 0 : spans[i - 1].end() - spans[i].start;
}

/// How much of span i the next one leaves.
std::int64_t kept(const std::vector<TileSpan>& spans, std::size_t i) {
  return i + 1 == spans.size() ? spans[i].size : spans[i + 1].start - spans[i].start;
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
  std::vector<torch::Tensor> strips, above;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const torch::Tensor band =
        x.narrow(kRows, rows[i].start * scale.input, rows[i].size * scale.input);
    std::vector<torch::Tensor> tiles, parts;
    for (std::size_t j = 0; j < columns.size(); ++j) {
      torch::Tensor tile = process(
          band.narrow(kColumns, columns[j].start * scale.input, columns[j].size * scale.input));
      if (i > 0) {
        tile = faded_in(tile, above[j], shared_with_last(rows, i) * scale.output, kRows);
      }
      if (j > 0) {
        tile = faded_in(tile, tiles.back(), shared_with_last(columns, j) * scale.output, kColumns);
      }
      tiles.push_back(tile);
      parts.push_back(tile.narrow(kRows, 0, kept(rows, i) * scale.output)
                          .narrow(kColumns, 0, kept(columns, j) * scale.output));
    }
    strips.push_back(torch::cat(parts, kColumns));
    above = std::move(tiles);
  }
  return torch::cat(strips, kRows);
}

}  // namespace rtlynx
