// SPDX-License-Identifier: Apache-2.0
#include "models/vae/vae.h"

#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/plain_layers.h"
#include "models/vae/tiling.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kSmallestTile = 256;  // pixels
// Of a tile; as wide as diffusers'.
constexpr std::int64_t kOverlapShare = 4;
// Of the widest tensors, held at once when the activations take most: a resnet's input, its norm,
// the convolution's result and what the convolution copies of them. Measured on a CPU.
constexpr std::int64_t kTensorsHeld = 5;
constexpr double kLeastLogVariance = -30, kLargestLogVariance = 20;

std::string shape_of(const torch::Tensor& x) {
  std::ostringstream text;
  text << x.sizes();
  return text.str();
}

}  // namespace

std::int64_t Vae::activation_bytes(std::int64_t height, std::int64_t width) const {
  const auto element = static_cast<std::int64_t>(options().dtype().itemsize());
  return height * width * widest_channels() * kTensorsHeld * element;
}

std::int64_t Vae::smallest_memory_limit() const {
  return activation_bytes(kSmallestTile, kSmallestTile);
}

void Vae::set_memory_limit(std::int64_t bytes) {
  const std::int64_t smallest = smallest_memory_limit();
  require(bytes >= smallest, "VAE memory limit",
          "at least " + std::to_string(smallest) + " bytes, a tile of 256 pixels",
          std::to_string(bytes));
  memory_limit_ = bytes;
}

std::optional<VaeTiling> Vae::tiling_for(std::int64_t height, std::int64_t width) const {
  if (!memory_limit_ || activation_bytes(height, width) <= *memory_limit_) return tiling_;
  std::int64_t tile = kSmallestTile;
  const std::int64_t step = factor() * kOverlapShare;
  while (activation_bytes(tile + step, tile + step) <= *memory_limit_) tile += step;
  if (tiling_ && tiling_->tile <= tile) return tiling_;
  return VaeTiling{.tile = tile, .overlap = tile / kOverlapShare};
}

void Vae::set_channels_last(bool value) {
  const torch::NoGradGuard no_grad;
  const auto format = value ? torch::MemoryFormat::ChannelsLast : torch::MemoryFormat::Contiguous;
  for (torch::Tensor& parameter : parameters()) {
    if (parameter.dim() == 4) parameter.set_data(parameter.contiguous(format));
  }
  channels_last_ = value;
}

torch::Tensor Vae::run(const torch::Tensor& x, bool decoding) {
  const std::int64_t side = factor();
  const TileScale scale =
      decoding ? TileScale{.input = 1, .output = side} : TileScale{.input = side, .output = 1};
  const std::int64_t height = x.size(2) / scale.input;  // of latents
  const std::int64_t width = x.size(3) / scale.input;
  const auto tiling = tiling_for(height * side, width * side);
  const std::int64_t tile = tiling ? tiling->tile / side : std::max(height, width);
  const std::int64_t overlap = tiling ? tiling->overlap / side : 0;
  const auto rows = tile_spans(height, tile, overlap);
  const auto columns = tile_spans(width, tile, overlap);
  const auto format =
      channels_last_ ? torch::MemoryFormat::ChannelsLast : torch::MemoryFormat::Contiguous;
  std::vector<torch::Tensor> pictures;
  for (const torch::Tensor& picture : x.split(1)) {
    pictures.push_back(run_tiled(picture, rows, columns, scale, [&](const torch::Tensor& part) {
      const torch::Tensor laid_out = part.contiguous(format);
      return decoding ? decode_tile(laid_out) : encode_tile(laid_out);
    }));
  }
  return torch::cat(pictures);
}

torch::Tensor Vae::decode(const torch::Tensor& latents) {
  const torch::NoGradGuard no_grad;
  if (latents.dim() != 4 || latents.size(1) != latent_channels() || latents.numel() == 0) {
    fail("VAE decoder", "latents [B, " + std::to_string(latent_channels()) + ", h, w]",
         shape_of(latents));
  }
  require_finite(latents, "VAE decoder's latents");
  const torch::Tensor pixels = run(unscaled(latents.to(options())), /*decoding=*/true);
  require_finite(pixels, "VAE decoder");
  return pixels;
}

LatentDistribution Vae::encode(const torch::Tensor& pixels) {
  const torch::NoGradGuard no_grad;
  const bool fits = pixels.dim() == 4 && pixels.size(1) == 3 && pixels.numel() > 0 &&
                    pixels.size(2) % factor() == 0 && pixels.size(3) % factor() == 0;
  if (!fits) {
    fail("VAE encoder", "pixels [B, 3, H, W], H and W multiples of " + std::to_string(factor()),
         shape_of(pixels));
  }
  const torch::Tensor moments = run(pixels.to(options()), /*decoding=*/false);
  require_finite(moments, "VAE encoder");
  const auto halves = moments.chunk(2, 1);
  return {.mean = halves[0],
          .deviation = (0.5 * halves[1].clamp(kLeastLogVariance, kLargestLogVariance)).exp()};
}

}  // namespace rtlynx
