// SPDX-License-Identifier: Apache-2.0
#include "models/vae/autoencoder_tiny.h"

#include <algorithm>
#include <array>
#include <sstream>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "io/json.h"
#include "io/text.h"
#include "models/component_config.h"
#include "models/parameters.h"
#include "models/plain_layers.h"

namespace rtlynx {
namespace {

using nlohmann::json;
using torch::nn::Identity;
using torch::nn::ModuleDict;
using torch::nn::ModuleList;

// Those of the encoder, of training, and of what diffusers does with memory and types among them.
constexpr std::array<std::string_view, 16> kTinyOptions = {"act_fn",
                                                           "block_out_channels",
                                                           "decoder_block_out_channels",
                                                           "encoder_block_out_channels",
                                                           "force_upcast",
                                                           "in_channels",
                                                           "latent_channels",
                                                           "latent_magnitude",
                                                           "latent_shift",
                                                           "num_decoder_blocks",
                                                           "num_encoder_blocks",
                                                           "out_channels",
                                                           "scaling_factor",
                                                           "shift_factor",
                                                           "upsample_fn",
                                                           "upsampling_scaling_factor"};

}  // namespace

AutoencoderTinyConfig autoencoder_tiny_config_from_json(const json& config,
                                                        const std::string& where) {
  check_component(config, "AutoencoderTiny", kTinyOptions, where);
  for (const auto& [key, wanted] :
       {std::pair("act_fn", "relu"), std::pair("upsample_fn", "nearest")}) {
    const std::string value = json_string(config, key, where, wanted);
    require(value == wanted, where, std::string(key) + " " + wanted, value);
  }
  json_int(config, "upsampling_scaling_factor", where, {.min = 2, .max = 2, .fallback = 2});
  json_int(config, "out_channels", where, {.min = 3, .max = 3, .fallback = 3});

  AutoencoderTinyConfig result{
      .latent_channels =
          json_int(config, "latent_channels", where, {.min = 1, .max = kMaxChannels}),
      .num_decoder_blocks = json_ints(config, "num_decoder_blocks", where, {.min = 0, .max = 64}),
      .scaling_factor =
          json_number(config, "scaling_factor", where, {.min = 1e-6, .fallback = 1.0}),
      .shift_factor = json_number(config, "shift_factor", where, {.fallback = 0.0})};
  const std::size_t levels = result.num_decoder_blocks.size();
  require(levels >= 1 && levels <= 8, where, "num_decoder_blocks: 1 to 8 numbers",
          std::to_string(levels));
  const std::vector<std::int64_t> channels =
      json_ints(config, "decoder_block_out_channels", where, {.min = 1, .max = kMaxChannels});
  require(channels == std::vector<std::int64_t>(levels, channels.empty() ? 0 : channels.front()),
          where, "decoder_block_out_channels: " + std::to_string(levels) + " equal numbers",
          json(channels).dump());
  result.channels = channels.front();
  return result;
}

TinyBlockImpl::TinyBlockImpl(std::int64_t channels, const torch::TensorOptions& options) {
  const ConvShape shape{.in = channels, .out = channels};
  conv0_ = VaeConv(shape, options);
  conv2_ = VaeConv(shape, options);
  conv4_ = VaeConv(shape, options);
  // The slots between are the activations, which have no parameters.
  register_module("conv", ModuleList(conv0_, Identity(), conv2_, Identity(), conv4_));
}

torch::Tensor TinyBlockImpl::forward(const torch::Tensor& x) {
  return conv4_(conv2_(conv0_(x).relu_()).relu_()).add_(x).relu_();
}

TinyDecoder::TinyDecoder(const AutoencoderTinyConfig& config, const torch::TensorOptions& options)
    : config_(config) {
  conv_in_ = VaeConv(ConvShape{.in = config.latent_channels, .out = config.channels}, options);
  ModuleList layers(conv_in_, Identity());
  const std::size_t levels = config.num_decoder_blocks.size();
  for (std::size_t level = 0; level < levels; ++level) {
    auto& blocks = blocks_.emplace_back();
    for (std::int64_t i = 0; i < config.num_decoder_blocks[level]; ++i) {
      layers->push_back(blocks.emplace_back(config.channels, options));
    }
    const bool last = level + 1 == levels;
    if (!last) layers->push_back(Identity());  // twice the size
    const ConvShape shape{
        .in = config.channels, .out = last ? 3 : config.channels, .with_bias = last};
    layers->push_back(convs_.emplace_back(shape, options));
  }
  ModuleDict decoder;
  decoder->update({{"layers", layers.ptr()}});
  register_module("decoder", decoder);
}

std::int64_t TinyDecoder::factor() const { return std::int64_t{1} << (convs_.size() - 1); }

torch::Tensor TinyDecoder::decode(const torch::Tensor& latents) {
  const torch::NoGradGuard no_grad;
  if (latents.dim() != 4 || latents.size(1) != latent_channels() || latents.numel() == 0) {
    std::ostringstream shape;
    shape << latents.sizes();
    fail("AutoencoderTiny", "latents [B, " + std::to_string(latent_channels()) + ", h, w]",
         shape.str());
  }
  require_finite(latents, "AutoencoderTiny's latents");
  const torch::Tensor scaled =
      latents.to(conv_in_->weight.options()) / config_.scaling_factor + config_.shift_factor;
  std::vector<torch::Tensor> pictures;
  for (const torch::Tensor& picture : scaled.split(1)) pictures.push_back(decode_one(picture));
  const torch::Tensor pixels = torch::cat(pictures);
  require_finite(pixels, "AutoencoderTiny");
  return pixels;
}

torch::Tensor TinyDecoder::decode_one(const torch::Tensor& latents) {
  torch::Tensor x = conv_in_(torch::tanh(latents / 3) * 3).relu_();
  for (std::size_t level = 0; level < convs_.size(); ++level) {
    for (auto& block : blocks_[level]) x = block(x);
    x = convs_[level](level + 1 < convs_.size() ? double_size(x) : x);
  }
  return 2 * x - 1;  // from [0, 1]
}

std::shared_ptr<TinyDecoder> load_tiny_decoder(const std::filesystem::path& folder,
                                               const torch::TensorOptions& options) {
  const std::filesystem::path path = folder / "config.json";
  const auto config =
      autoencoder_tiny_config_from_json(read_json_file(path), printable(path.string()));
  auto decoder = std::make_shared<TinyDecoder>(config, options);
  StoredTensors stored;
  stored.ignored = {"encoder."};
  load_parameters(*decoder, folder, "diffusion_pytorch_model", stored);
  decoder->eval();
  return decoder;
}

}  // namespace rtlynx
