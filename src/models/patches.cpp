// SPDX-License-Identifier: Apache-2.0
#include "models/patches.h"

namespace rtlynx {

torch::Tensor tokens_from_pixels(const torch::Tensor& pixels, std::int64_t patch) {
  const std::int64_t batch = pixels.size(0), channels = pixels.size(1);
  const std::int64_t rows = pixels.size(2) / patch, columns = pixels.size(3) / patch;
  return pixels.reshape({batch, channels, rows, patch, columns, patch})
      .permute({0, 2, 4, 1, 3, 5})
      .reshape({batch, rows * columns, channels * patch * patch});
}

torch::Tensor pixels_from_tokens(const torch::Tensor& tokens, std::int64_t patch,
                                 std::int64_t height, std::int64_t width) {
  const std::int64_t batch = tokens.size(0), channels = tokens.size(2) / (patch * patch);
  return tokens.reshape({batch, height / patch, width / patch, channels, patch, patch})
      .permute({0, 3, 1, 4, 2, 5})
      .reshape({batch, channels, height, width});
}

torch::Tensor image_position_ids(std::int64_t rows, std::int64_t columns) {
  const torch::Tensor row = torch::arange(rows, torch::kFloat32).repeat_interleave(columns);
  const torch::Tensor column = torch::arange(columns, torch::kFloat32).repeat({rows});
  return torch::stack({torch::zeros_like(row), row, column}, /*dim=*/1);
}

}  // namespace rtlynx
