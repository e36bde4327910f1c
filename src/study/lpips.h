// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/image.h"
#include "base/libtorch.h"

namespace rtlynx {

struct ConvolutionStack;

/// The learned perceptual distance of two pictures (Zhang et al. 2018, version 0.1): at five depths
/// of an image classifier, features [C, h, w] are divided by their norm over the channels, and the
/// squared differences, weighted by a learned vector of C numbers, averaged over the positions; the
/// distance is the sum over the depths. Pictures go in at their size, in [-1, 1], shifted and
/// scaled per colour as the definition fixes. 0 for equal pictures; published figures are of
/// AlexNet.
class Lpips {
 public:
  /// Reads a file of tools/convert_lpips.py: safetensors with the metadata format = "rtlynx lpips
  /// 1" and network = "alex" or "vgg" (VGG-16), `conv.<i>.weight` [out, in, k, k] and
  /// `conv.<i>.bias` [out] in the order of the network, and `linear.<j>` [C], j from 0 to 4. Throws
  /// Error for another file.
  static Lpips read(const std::filesystem::path& path);

  const std::string& network() const { return network_; }

  /// Of a[i] and b[i], on the CPU in fp32. Throws Error unless all pictures have one size, at least
  /// 31x31 for alex and 16x16 for vgg, and there are as many of a as of b.
  std::vector<double> distances(std::span<const Image> a, std::span<const Image> b) const;

 private:
  struct Layer {
    torch::Tensor weight;  // [out, in, k, k]
    torch::Tensor bias;    // [out]
  };

  /// [B, 3, H, W] -> [C, h, w] of each depth, normalised over C.
  std::vector<torch::Tensor> features(std::span<const Image> pictures) const;

  std::string network_;
  const ConvolutionStack* stack_ = nullptr;
  std::vector<Layer> layers_;
  std::vector<torch::Tensor> linear_;  // [1, C, 1, 1] each
};

/// Lpips::read, or nothing without a path.
std::optional<Lpips> read_lpips(const std::filesystem::path& path);

}  // namespace rtlynx
