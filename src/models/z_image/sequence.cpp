// SPDX-License-Identifier: Apache-2.0
#include "models/z_image/sequence.h"

#include <algorithm>

namespace rtlynx {
namespace {

/// Positions (first + i, 0, 0): [count, 3].
torch::Tensor caption_positions(std::int64_t count) {
  const torch::Tensor first = torch::arange(1, 1 + count, torch::kInt64);
  const torch::Tensor zero = torch::zeros_like(first);
  return torch::stack({first, zero, zero}, /*dim=*/1);
}

/// Positions (first, row, column): [rows * columns, 3].
torch::Tensor patch_positions(std::int64_t first, std::int64_t rows, std::int64_t columns) {
  const torch::Tensor row = torch::arange(rows, torch::kInt64).repeat_interleave(columns);
  const torch::Tensor column = torch::arange(columns, torch::kInt64).repeat({rows});
  return torch::stack({torch::full_like(row, first), row, column}, /*dim=*/1);
}

}  // namespace

std::int64_t ZImageSequence::caption_tokens() const {
  return padded(*std::max_element(captions.begin(), captions.end()));
}

bool ZImageSequence::is_ragged() const {
  return std::any_of(captions.begin(), captions.end(),
                     [&](std::int64_t own) { return padded(own) != caption_tokens(); });
}

torch::Tensor z_image_positions(const ZImageSequence& sequence) {
  std::vector<torch::Tensor> images;
  const torch::Tensor caption = caption_positions(sequence.caption_tokens());
  const torch::Tensor padding =
      torch::zeros({sequence.image_tokens() - sequence.patches(), 3}, torch::kInt64);
  for (const std::int64_t own : sequence.captions) {
    const torch::Tensor patches =
        patch_positions(1 + ZImageSequence::padded(own), sequence.rows, sequence.columns);
    images.push_back(torch::cat({patches, padding, caption}));
  }
  return torch::stack(images);
}

torch::Tensor z_image_rotation(const torch::Tensor& positions, const ZImageConfig& config) {
  std::vector<torch::Tensor> angles;
  const torch::Tensor wide = positions.to(torch::kFloat64);
  for (std::size_t axis = 0; axis < config.axes_dims.size(); ++axis) {
    const std::int64_t dim = config.axes_dims[axis];
    const torch::Tensor exponent =
        torch::arange(0, dim, 2, wide.options()) / static_cast<double>(dim);
    const torch::Tensor frequency = 1.0 / torch::pow(config.rope_theta, exponent);
    angles.push_back(wide.select(-1, static_cast<std::int64_t>(axis)).unsqueeze(-1) * frequency);
  }
  // diffusers rounds the angle before it takes cosine and sine.
  const torch::Tensor angle = torch::cat(angles, /*dim=*/-1).to(torch::kFloat32);
  return torch::polar(torch::ones_like(angle), angle);
}

torch::Tensor z_image_mask(const ZImageSequence& sequence, torch::Device device) {
  if (!sequence.is_ragged()) return {};
  torch::Tensor mask =
      torch::zeros({sequence.batch(), 1, 1, sequence.joint_tokens()}, torch::kBool);
  for (std::int64_t i = 0; i < sequence.batch(); ++i) {
    const std::int64_t own = ZImageSequence::padded(sequence.captions[static_cast<std::size_t>(i)]);
    mask[i].narrow(-1, 0, sequence.image_tokens() + own).fill_(true);
  }
  return mask.to(device);
}

}  // namespace rtlynx
