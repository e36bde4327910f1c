// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "models/vae/vae_layers.h"

namespace rtlynx {

/// Whose latents TAEF1 decodes. Nothing in its files says so.
inline constexpr std::string_view kTinyLatentSpace = "FLUX.1";

/// The constructor arguments of diffusers' AutoencoderTiny that its decoder reads, as TAEF1 sets
/// them: the small autoencoder of FLUX.1's latents.
struct AutoencoderTinyConfig {
  std::int64_t latent_channels = 16;
  std::int64_t channels = 64;  ///< of all layers between
  std::vector<std::int64_t> num_decoder_blocks = {3, 3, 3, 1};
  double scaling_factor = 1;
  double shift_factor = 0;
};

/// Throws Error, naming `where`, for another class, a value of the wrong type or range, and, by
/// name, every option that this implementation does not have.
AutoencoderTinyConfig autoencoder_tiny_config_from_json(const nlohmann::json& config,
                                                        const std::string& where);

/// relu(x + conv4(relu(conv2(relu(conv0(x))))))
class TinyBlockImpl : public torch::nn::Module {
 public:
  TinyBlockImpl(std::int64_t channels, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  VaeConv conv0_{nullptr}, conv2_{nullptr}, conv4_{nullptr};
};
TORCH_MODULE(TinyBlock);

/// The decoder of diffusers' AutoencoderTiny, with its arithmetic and tensor names: a hundredth of
/// the work of AutoencoderKL's, for previews. Parameters are not initialised.
class TinyDecoder : public torch::nn::Module {
 public:
  TinyDecoder(const AutoencoderTinyConfig& config, const torch::TensorOptions& options);

  /// Latents [B, C, h, w] in the transformer's scale to pixels [B, 3, H, W], one picture at a time.
  /// Throws Error for another shape and for values that are not finite.
  torch::Tensor decode(const torch::Tensor& latents);

  std::int64_t latent_channels() const { return config_.latent_channels; }
  /// Pixels along a side for each one of latents.
  std::int64_t factor() const;

 private:
  torch::Tensor decode_one(const torch::Tensor& latents);

  AutoencoderTinyConfig config_;
  VaeConv conv_in_{nullptr};
  std::vector<std::vector<TinyBlock>> blocks_;  // by resolution
  std::vector<VaeConv> convs_;                  // behind each resolution's blocks
};

/// Reads a folder with config.json and diffusion_pytorch_model*.safetensors, whose encoder is left
/// out. Throws Error naming file and tensor for whatever does not fit.
std::shared_ptr<TinyDecoder> load_tiny_decoder(const std::filesystem::path& folder,
                                               const torch::TensorOptions& options);

}  // namespace rtlynx
