// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/libtorch.h"
#include "models/load_progress.h"

namespace rtlynx {

/// Latents as an encoder describes them, [B, C, h, w] each, in the autoencoder's own scale.
struct LatentDistribution {
  torch::Tensor mean;
  torch::Tensor deviation;

  /// A draw from it; `noise` is standard normal.
  torch::Tensor sample(const torch::Tensor& noise) const { return mean + deviation * noise; }
};

/// How large pictures are cut, in pixels along a side.
struct VaeTiling {
  std::int64_t tile = 1024;
  std::int64_t overlap = 256;
};

/// An autoencoder between pictures [B, 3, H, W] in about [-1, 1] and latents [B, C, H/f, W/f], f
/// being factor(). Pictures are taken one at a time, and in tiles where one would need more memory
/// than allowed.
class Vae : public torch::nn::Module {
 public:
  /// Latents in the transformer's scale, of any floating-point type, to pixels of the autoencoder's
  /// type. Throws Error for another shape and for values that are not finite.
  torch::Tensor decode(const torch::Tensor& latents);

  /// H and W are multiples of factor().
  LatentDistribution encode(const torch::Tensor& pixels);

  /// Latents from the autoencoder's scale to the transformer's.
  virtual torch::Tensor scaled(const torch::Tensor& latents) const = 0;

  virtual std::int64_t latent_channels() const = 0;
  /// Pixels along a side for each one of latents.
  virtual std::int64_t factor() const = 0;

  /// Larger pictures are cut; nothing: none is cut for its size.
  void set_tiling(const std::optional<VaeTiling>& tiling) { tiling_ = tiling; }

  /// Cuts pictures whose activations would take more than about `bytes`, into the largest tiles
  /// whose do not. Throws Error if that is too little for the smallest useful tile.
  void set_memory_limit(std::int64_t bytes);
  std::optional<std::int64_t> memory_limit() const { return memory_limit_; }
  std::int64_t smallest_memory_limit() const;

  /// About what the activations of a whole picture take, in bytes.
  std::int64_t activation_bytes(std::int64_t height, std::int64_t width) const;

  /// Keeps a pixel's channels side by side in memory. Same results up to rounding.
  void set_channels_last(bool value);

 protected:
  /// Latents from the transformer's scale to the autoencoder's.
  virtual torch::Tensor unscaled(const torch::Tensor& latents) const = 0;
  virtual torch::Tensor decode_tile(const torch::Tensor& latents) = 0;  // [1, C, h, w] -> pixels
  virtual torch::Tensor encode_tile(const torch::Tensor& pixels) = 0;   // -> [1, 2 C, h, w]
  /// Channels of the widest tensor that is as large as the picture.
  virtual std::int64_t widest_channels() const = 0;

 private:
  /// For a picture of height x width.
  std::optional<VaeTiling> tiling_for(std::int64_t height, std::int64_t width) const;
  torch::Tensor run(const torch::Tensor& x, bool decoding);
  torch::TensorOptions options() const { return parameters().front().options(); }

  std::optional<VaeTiling> tiling_;
  std::optional<std::int64_t> memory_limit_;
  bool channels_last_ = false;
};

/// What a `vae/` folder holds.
struct VaeShape {
  std::int64_t latent_channels = 0;
  std::int64_t factor = 0;  ///< pixels along a side for each one of latents
};

/// Reads config.json and the heads of the files with weights; throws Error as load_vae does.
VaeShape read_vae_shape(const std::filesystem::path& folder);

/// Reads a `vae/` folder: config.json, whose class is AutoencoderKL or AutoencoderKLQwenImage, and
/// diffusion_pytorch_model*.safetensors. Throws Error naming file and tensor for whatever does not
/// fit. Channels come last in memory where that is faster. On the meta device it only checks.
std::shared_ptr<Vae> load_vae(const std::filesystem::path& folder,
                              const torch::TensorOptions& options,
                              const LoadProgress& on_progress = {});

}  // namespace rtlynx
