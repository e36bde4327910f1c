// SPDX-License-Identifier: Apache-2.0
#include "pipeline/pixels.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace rtlynx {

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

torch::Tensor pixels_from_images(std::span<const Image> images) {
  require(!images.empty(), "pixels_from_images", "at least one image", "none");
  const Image& first = images.front();
  const auto count = static_cast<std::int64_t>(images.size());
  torch::Tensor bytes = torch::empty({count, first.height, first.width, 3}, torch::kUInt8);
  auto* target = bytes.mutable_data_ptr<std::uint8_t>();
  for (const Image& image : images) {
    if (image.width != first.width || image.height != first.height) {
      const auto size = [](const Image& of) {
        return std::to_string(of.width) + "x" + std::to_string(of.height);
      };
      fail("pixels_from_images", "images of " + size(first), size(image));
    }
    target = std::copy(image.rgb.begin(), image.rgb.end(), target);
  }
  return pixels_from_bytes(bytes);
}

}  // namespace rtlynx
