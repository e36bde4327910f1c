// SPDX-License-Identifier: Apache-2.0
#include "study/picture_features.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "base/error.h"
#include "base/rng.h"
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
constexpr std::size_t kBatch = 64;

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

}  // namespace

torch::Tensor picture_features(const std::vector<Image>& pictures) {
  require(!pictures.empty(), "picture_features", "at least one picture", "none");
  for (const Image& picture : pictures) {
    require_same_size("picture_features", pictures.front(), picture, kSmallest);
  }
  const torch::NoGradGuard no_grad;
  static const auto weights = draw_weights();
  std::vector<torch::Tensor> features;
  const std::span<const Image> all(pictures);
  for (std::size_t first = 0; first < all.size(); first += kBatch) {
    torch::Tensor x = pixels_from_images(all.subspan(first, std::min(kBatch, all.size() - first)));
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
