// SPDX-License-Identifier: Apache-2.0
#include "study/picture_features.h"

#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "data/rng.h"
#include "metrics/same_size.h"
#include "pipeline/pixels.h"

namespace rtlynx {
namespace {

struct Layer {
  std::int64_t in, out, side;
};
constexpr std::array<Layer, 3> kLayers = {{{3, 16, 5}, {16, 32, 3}, {32, 48, 3}}};
constexpr int kSmallest = 17;  // one position is left after the last layer
constexpr std::uint64_t kSeed = 1;
constexpr std::int64_t kBatch = 64;

std::array<torch::Tensor, kLayers.size()> draw_weights() {
  Rng rng(kSeed);
  std::array<torch::Tensor, kLayers.size()> weights;
  for (std::size_t i = 0; i < kLayers.size(); ++i) {
    const Layer& layer = kLayers[i];
    weights[i] = torch::empty({layer.out, layer.in, layer.side, layer.side}, torch::kFloat32);
    const double bound = std::sqrt(6.0 / static_cast<double>(layer.in * layer.side * layer.side));
    auto* values = weights[i].mutable_data_ptr<float>();
    for (std::int64_t j = 0; j < weights[i].numel(); ++j) {
      values[j] = static_cast<float>(bound * (2.0 * rng.uniform() - 1.0));
    }
  }
  return weights;
}

torch::Tensor bytes_of(const std::vector<Image>& pictures) {
  const Image& first = pictures.front();
  const auto count = static_cast<std::int64_t>(pictures.size());
  torch::Tensor bytes = torch::empty({count, first.height, first.width, 3}, torch::kUInt8);
  auto* target = bytes.mutable_data_ptr<std::uint8_t>();
  for (const Image& picture : pictures) {
    require_same_size("picture_features", first, picture, kSmallest);
    std::memcpy(target, picture.rgb.data(), picture.rgb.size());
    target += picture.rgb.size();
  }
  return bytes;
}

}  // namespace

torch::Tensor picture_features(const std::vector<Image>& pictures) {
  require(!pictures.empty(), "picture_features", "at least one picture", "none");
  const torch::NoGradGuard no_grad;
  static const auto weights = draw_weights();
  std::vector<torch::Tensor> features;
  for (const torch::Tensor& part : bytes_of(pictures).split(kBatch)) {
    torch::Tensor x = pixels_from_bytes(part);
    std::vector<torch::Tensor> means;
    for (const torch::Tensor& weight : weights) {
      x = torch::relu(torch::conv2d(x, weight, /*bias=*/{}, /*stride=*/2));
      means.push_back(x.mean({2, 3}));
    }
    features.push_back(torch::cat(means, /*dim=*/1));
  }
  return torch::cat(features);
}

}  // namespace rtlynx
