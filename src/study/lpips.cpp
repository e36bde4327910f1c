// SPDX-License-Identifier: Apache-2.0
#include "study/lpips.h"

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string_view>

#include "base/error.h"
#include "io/safetensors.h"
#include "layers/finite.h"
#include "metrics/same_size.h"
#include "models/tensor_bytes.h"
#include "pipeline/pixels.h"

namespace rtlynx {

/// A convolution with ReLU, behind a max-pool of stride 2 where `pool`, its side, is not 0.
struct Convolution {
  std::int64_t in, out, side;
  std::int64_t stride = 1, padding = 1;
  std::int64_t pool = 0;
  bool compared = false;  // its output is one of the five depths
};

/// The convolutions of a classifier, as far as the last depth.
struct ConvolutionStack {
  std::string_view name;
  int smallest;  // side of a picture of which one position is left
  std::vector<Convolution> convolutions;
};

namespace {

constexpr const char* kLpipsFormat = "rtlynx lpips 1";
constexpr std::size_t kBatch = 16;

const std::vector<ConvolutionStack>& stacks() {
  static const std::vector<ConvolutionStack> all = {
      {.name = "alex",
       .smallest = 31,
       .convolutions =
           {{.in = 3, .out = 64, .side = 11, .stride = 4, .padding = 2, .compared = true},
            {.in = 64, .out = 192, .side = 5, .padding = 2, .pool = 3, .compared = true},
            {.in = 192, .out = 384, .side = 3, .pool = 3, .compared = true},
            {.in = 384, .out = 256, .side = 3, .compared = true},
            {.in = 256, .out = 256, .side = 3, .compared = true}}},
      {.name = "vgg",
       .smallest = 16,
       .convolutions = {{.in = 3, .out = 64, .side = 3},
                        {.in = 64, .out = 64, .side = 3, .compared = true},
                        {.in = 64, .out = 128, .side = 3, .pool = 2},
                        {.in = 128, .out = 128, .side = 3, .compared = true},
                        {.in = 128, .out = 256, .side = 3, .pool = 2},
                        {.in = 256, .out = 256, .side = 3},
                        {.in = 256, .out = 256, .side = 3, .compared = true},
                        {.in = 256, .out = 512, .side = 3, .pool = 2},
                        {.in = 512, .out = 512, .side = 3},
                        {.in = 512, .out = 512, .side = 3, .compared = true},
                        {.in = 512, .out = 512, .side = 3, .pool = 2},
                        {.in = 512, .out = 512, .side = 3},
                        {.in = 512, .out = 512, .side = 3, .compared = true}}}};
  return all;
}

std::string metadata(const SafetensorsFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? "none" : found->second;
}

const ConvolutionStack& find_stack(const std::string& name, const std::string& where) {
  for (const ConvolutionStack& stack : stacks()) {
    if (stack.name == name) return stack;
  }
  fail(where, "network alex or vgg", name);
}

torch::Tensor read_tensor(const SafetensorsFile& file, const std::string& name,
                          const std::vector<std::int64_t>& shape) {
  const std::string where = file.path().string() + ", tensor " + name;
  const torch::Tensor tensor = copy_to_tensor(file.entry(name), where);
  if (tensor.sizes() != shape || !tensor.is_floating_point()) {
    std::ostringstream required, arrived;
    required << "numbers " << c10::IntArrayRef(shape);
    arrived << tensor.dtype() << " " << tensor.sizes();
    fail(where, required.str(), arrived.str());
  }
  const torch::Tensor numbers = tensor.to(torch::kFloat32);
  require_finite(numbers, where);
  return numbers;
}

// What the definition does to pictures in [-1, 1] before the first convolution.
torch::Tensor standardized(const torch::Tensor& pixels) {
  const auto per_colour = [](float red, float green, float blue) {
    return torch::tensor({red, green, blue}).view({1, 3, 1, 1});
  };
  return (pixels - per_colour(-0.030F, -0.088F, -0.188F)) / per_colour(0.458F, 0.448F, 0.450F);
}

torch::Tensor unit_over_channels(const torch::Tensor& x) {
  constexpr double kEpsilon = 1e-10;
  return x / (x.square().sum(1, /*keepdim=*/true).sqrt() + kEpsilon);
}

}  // namespace

Lpips Lpips::read(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  const std::string where = path.string();
  require(metadata(file, "format") == kLpipsFormat, where,
          std::string("the format \"") + kLpipsFormat + "\"", metadata(file, "format"));
  Lpips lpips;
  lpips.network_ = metadata(file, "network");
  lpips.stack_ = &find_stack(lpips.network_, where);
  for (std::size_t i = 0; i < lpips.stack_->convolutions.size(); ++i) {
    const Convolution& convolution = lpips.stack_->convolutions[i];
    const std::string name = "conv." + std::to_string(i);
    lpips.layers_.push_back({.weight = read_tensor(file, name + ".weight",
                                                   {convolution.out, convolution.in,
                                                    convolution.side, convolution.side}),
                             .bias = read_tensor(file, name + ".bias", {convolution.out})});
    if (!convolution.compared) continue;
    const std::string head = "linear." + std::to_string(lpips.linear_.size());
    lpips.linear_.push_back(read_tensor(file, head, {convolution.out}).view({1, -1, 1, 1}));
  }
  const std::size_t known = 2 * lpips.layers_.size() + lpips.linear_.size();
  require(file.names().size() == known, where, std::to_string(known) + " tensors",
          std::to_string(file.names().size()));
  return lpips;
}

std::vector<torch::Tensor> Lpips::features(std::span<const Image> pictures) const {
  std::vector<torch::Tensor> depths;
  torch::Tensor x = standardized(pixels_from_images(pictures));
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Convolution& convolution = stack_->convolutions[i];
    if (convolution.pool > 0) x = torch::max_pool2d(x, convolution.pool, /*stride=*/2);
    x = torch::relu(torch::conv2d(x, layers_[i].weight, layers_[i].bias, convolution.stride,
                                  convolution.padding));
    if (convolution.compared) depths.push_back(unit_over_channels(x));
  }
  return depths;
}

std::vector<double> Lpips::distances(std::span<const Image> a, std::span<const Image> b) const {
  require(a.size() == b.size(), "lpips", std::to_string(a.size()) + " pictures to compare with",
          std::to_string(b.size()));
  for (std::size_t i = 0; i < a.size(); ++i) {
    require_same_size("lpips", a.front(), a[i], stack_->smallest);
    require_same_size("lpips", a.front(), b[i], stack_->smallest);
  }
  const torch::NoGradGuard no_grad;
  std::vector<double> distances;
  for (std::size_t first = 0; first < a.size(); first += kBatch) {
    const std::size_t count = std::min(kBatch, a.size() - first);
    const auto of_a = features(a.subspan(first, count)), of_b = features(b.subspan(first, count));
    torch::Tensor sum = torch::zeros({static_cast<std::int64_t>(count)});
    for (std::size_t i = 0; i < linear_.size(); ++i) {
      sum += ((of_a[i] - of_b[i]).square() * linear_[i]).sum(1).mean({1, 2});
    }
    const torch::Tensor wide = sum.to(torch::kFloat64);
    const auto* values = wide.const_data_ptr<double>();
    distances.insert(distances.end(), values, values + count);
  }
  return distances;
}

std::optional<Lpips> read_lpips(const std::filesystem::path& path) {
  if (path.empty()) return std::nullopt;
  return Lpips::read(path);
}

}  // namespace rtlynx
