// SPDX-License-Identifier: Apache-2.0
#include "pipeline/pixels.h"

#include <algorithm>

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

std::vector<Image> images_from_pixels(const torch::Tensor& pixels) {
  const torch::Tensor bytes = pixels.to(torch::kFloat32)
                                  .add(1.0)
                                  .mul(127.5)
                                  .round()
                                  .clamp(0, 255)
                                  .to(torch::kUInt8)
                                  .permute({0, 2, 3, 1})
                                  .to(torch::kCPU)
                                  .contiguous();
  std::vector<Image> images;
  for (std::int64_t i = 0; i < bytes.size(0); ++i) {
    Image image(static_cast<int>(bytes.size(2)), static_cast<int>(bytes.size(1)));
    const auto* first = bytes[i].const_data_ptr<std::uint8_t>();
    std::copy_n(first, image.rgb.size(), image.rgb.begin());
    images.push_back(std::move(image));
  }
  return images;
}

torch::Tensor pixels_from_bytes(const torch::Tensor& bytes) {
  return bytes.permute({0, 3, 1, 2}).to(torch::kFloat32).div(127.5).sub(1.0);
}

}  // namespace rtlynx
