// SPDX-License-Identifier: Apache-2.0
#include "models/vae/autoencoder_kl_qwen_image.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"
#include "io/json.h"
#include "models/component_config.h"
#include "models/vae/vae_layers.h"

namespace rtlynx {
namespace {

using nlohmann::json;
using torch::nn::ModuleDict;
using torch::nn::ModuleList;

constexpr const char* kQwenImageClass = "AutoencoderKLQwenImage";
constexpr std::int64_t kPixelNorm = 0;  // groups: none, every pixel by itself

/// Attention among all pixels with one head as wide as the channels.
class QwenVaeAttentionImpl : public torch::nn::Module {
 public:
  QwenVaeAttentionImpl(std::int64_t channels, const torch::TensorOptions& options) {
    norm_ = register_module("norm", VaeNorm(channels, kPixelNorm, options));
    const ConvShape qkv{.in = channels, .out = 3 * channels, .kernel = 1};
    to_qkv_ = register_module("to_qkv", VaeConv(qkv, options));
    const ConvShape proj{.in = channels, .out = channels, .kernel = 1};
    proj_ = register_module("proj", VaeConv(proj, options));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    // [B, H W, 3 C]
    const torch::Tensor qkv = to_qkv_(norm_(x)).flatten(2).transpose(1, 2).contiguous();
    const auto parts = qkv.chunk(3, -1);
    const torch::Tensor out = attend_pixels(parts[0], parts[1], parts[2]);
    return x + proj_(out.transpose(1, 2).reshape(x.sizes()));
  }

 private:
  VaeNorm norm_{nullptr};
  VaeConv to_qkv_{nullptr}, proj_{nullptr};
};
TORCH_MODULE(QwenVaeAttention);

/// Resnet, attention, resnet at the lowest resolution.
class QwenVaeMidBlockImpl : public torch::nn::Module {
 public:
  QwenVaeMidBlockImpl(std::int64_t channels, const torch::TensorOptions& options) {
    first_ = VaeResnet(channels, channels, kPixelNorm, options);
    attention_ = QwenVaeAttention(channels, options);
    last_ = VaeResnet(channels, channels, kPixelNorm, options);
    register_module("resnets", ModuleList(first_, last_));
    register_module("attentions", ModuleList(attention_));
  }

  torch::Tensor forward(const torch::Tensor& x) { return last_(attention_(first_(x))); }

 private:
  VaeResnet first_{nullptr}, last_{nullptr};
  QwenVaeAttention attention_{nullptr};
};
TORCH_MODULE(QwenVaeMidBlock);

/// A convolution under the name that it has inside diffusers' resampling module.
ModuleDict resampler(const VaeConv& conv) {
  ModuleDict module;
  // Slot 0 is the resampling itself, which has no parameters.
  module->update({{"resample", ModuleList(torch::nn::Identity(), conv).ptr()}});
  return module;
}

class QwenVaeEncoderImpl : public torch::nn::Module {
 public:
  QwenVaeEncoderImpl(const AutoencoderKlQwenImageConfig& config,
                     const torch::TensorOptions& options) {
    std::int64_t channels = config.base_dim;
    conv_in_ = register_module("conv_in", VaeConv(ConvShape{.in = 3, .out = channels}, options));
    auto list = register_module("down_blocks", ModuleList());
    for (std::size_t level = 0; level < config.dim_mult.size(); ++level) {
      auto& resnets = levels_.emplace_back();
      const std::int64_t out = config.base_dim * config.dim_mult[level];
      for (std::int64_t i = 0; i < config.num_res_blocks; ++i) {
        resnets.emplace_back(channels, out, kPixelNorm, options);
        list->push_back(resnets.back());
        channels = out;
      }
      if (level + 1 == config.dim_mult.size()) break;
      halvings_.emplace_back(ConvShape{.in = channels, .out = channels}, options);
      list->push_back(resampler(halvings_.back()));
    }
    mid_block_ = register_module("mid_block", QwenVaeMidBlock(channels, options));
    norm_out_ = register_module("norm_out", VaeNorm(channels, kPixelNorm, options));
    conv_out_ = register_module(
        "conv_out", VaeConv(ConvShape{.in = channels, .out = 2 * config.z_dim}, options));
  }

  torch::Tensor forward(const torch::Tensor& pixels) {
    torch::Tensor x = conv_in_(pixels);
    for (std::size_t level = 0; level < levels_.size(); ++level) {
      for (auto& resnet : levels_[level]) x = resnet(x);
      if (level < halvings_.size()) x = halvings_[level]->halve(x);
    }
    return conv_out_(silu_over(norm_out_(mid_block_(x))));
  }

 private:
  VaeConv conv_in_{nullptr}, conv_out_{nullptr};
  std::vector<std::vector<VaeResnet>> levels_;
  std::vector<VaeConv> halvings_;
  QwenVaeMidBlock mid_block_{nullptr};
  VaeNorm norm_out_{nullptr};
};
TORCH_MODULE(QwenVaeEncoder);

class QwenVaeDecoderImpl : public torch::nn::Module {
 public:
  QwenVaeDecoderImpl(const AutoencoderKlQwenImageConfig& config,
                     const torch::TensorOptions& options) {
    const std::size_t levels = config.dim_mult.size();
    std::int64_t channels = config.base_dim * config.dim_mult.back();
    conv_in_ = register_module("conv_in",
                               VaeConv(ConvShape{.in = config.z_dim, .out = channels}, options));
    mid_block_ = register_module("mid_block", QwenVaeMidBlock(channels, options));
    auto list = register_module("up_blocks", ModuleList());
    for (std::size_t level = 0; level < levels; ++level) {
      const std::int64_t out = config.base_dim * config.dim_mult[levels - 1 - level];
      ModuleDict block;
      ModuleList resnet_list;
      auto& resnets = levels_.emplace_back();
      for (std::int64_t i = 0; i < config.num_res_blocks + 1; ++i) {
        resnets.emplace_back(i == 0 ? channels : out, out, kPixelNorm, options);
        resnet_list->push_back(resnets.back());
      }
      block->update({{"resnets", resnet_list.ptr()}});
      channels = out;
      if (level + 1 < levels) {
        // The step to the next size halves the channels.
        doublings_.emplace_back(ConvShape{.in = out, .out = out / 2}, options);
        block->update({{"upsamplers", ModuleList(resampler(doublings_.back())).ptr()}});
        channels = out / 2;
      }
      list->push_back(block);
    }
    norm_out_ = register_module("norm_out", VaeNorm(channels, kPixelNorm, options));
    conv_out_ = register_module("conv_out", VaeConv(ConvShape{.in = channels, .out = 3}, options));
  }

  torch::Tensor forward(const torch::Tensor& latents) {
    torch::Tensor x = mid_block_(conv_in_(latents));
    for (std::size_t level = 0; level < levels_.size(); ++level) {
      for (auto& resnet : levels_[level]) x = resnet(x);
      if (level < doublings_.size()) x = doublings_[level](double_size(x));
    }
    return conv_out_(silu_over(norm_out_(x)));
  }

 private:
  VaeConv conv_in_{nullptr}, conv_out_{nullptr};
  std::vector<std::vector<VaeResnet>> levels_;
  std::vector<VaeConv> doublings_;
  QwenVaeMidBlock mid_block_{nullptr};
  VaeNorm norm_out_{nullptr};
};
TORCH_MODULE(QwenVaeDecoder);

class AutoencoderKlQwenImage : public Vae {
 public:
  AutoencoderKlQwenImage(const AutoencoderKlQwenImageConfig& config,
                         const torch::TensorOptions& options)
      : config_(config) {
    encoder_ = register_module("encoder", QwenVaeEncoder(config, options));
    const ConvShape moments{.in = 2 * config.z_dim, .out = 2 * config.z_dim, .kernel = 1};
    quant_conv_ = register_module("quant_conv", VaeConv(moments, options));
    const ConvShape latents{.in = config.z_dim, .out = config.z_dim, .kernel = 1};
    post_quant_conv_ = register_module("post_quant_conv", VaeConv(latents, options));
    decoder_ = register_module("decoder", QwenVaeDecoder(config, options));
  }

  torch::Tensor scaled(const torch::Tensor& latents) const override {
    return (latents - per_channel(config_.latents_mean, latents)) * inverse_std(latents);
  }
  std::int64_t latent_channels() const override { return config_.z_dim; }
  std::int64_t factor() const override { return std::int64_t{1} << (config_.dim_mult.size() - 1); }

 protected:
  torch::Tensor unscaled(const torch::Tensor& latents) const override {
    return latents / inverse_std(latents) + per_channel(config_.latents_mean, latents);
  }
  torch::Tensor decode_tile(const torch::Tensor& latents) override {
    return decoder_(post_quant_conv_(latents)).clamp_(-1, 1);
  }
  torch::Tensor encode_tile(const torch::Tensor& pixels) override {
    return quant_conv_(encoder_(pixels));
  }
  std::int64_t widest_channels() const override {
    return config_.base_dim * config_.dim_mult[config_.dim_mult.size() > 1 ? 1 : 0];
  }

 private:
  /// [1, C, 1, 1] of `like`'s type.
  static torch::Tensor per_channel(const std::vector<double>& values, const torch::Tensor& like) {
    return torch::tensor(values, torch::kFloat32).reshape({1, -1, 1, 1}).to(like.options());
  }
  /// diffusers rounds the deviation, then its inverse, to the latents' type, and so does this.
  torch::Tensor inverse_std(const torch::Tensor& latents) const {
    return 1.0 / per_channel(config_.latents_std, latents);
  }

  AutoencoderKlQwenImageConfig config_;
  QwenVaeEncoder encoder_{nullptr};
  VaeConv quant_conv_{nullptr}, post_quant_conv_{nullptr};
  QwenVaeDecoder decoder_{nullptr};
};

constexpr std::array<std::string_view, 10> kKnownOptions = {
    "base_dim", "z_dim",          "dim_mult",     "num_res_blocks", "attn_scales",
    "dropout",  "input_channels", "latents_mean", "latents_std",    "temperal_downsample"};

std::vector<double> channel_values(const json& config, const char* key, std::int64_t channels,
                                   bool positive, const std::string& where) {
  const json values = config.value(key, json());
  const bool fits = values.is_array() && std::ssize(values) == channels &&
                    std::all_of(values.begin(), values.end(), [&](const json& value) {
                      return value.is_number() && (!positive || value.get<double>() > 0);
                    });
  require(fits, where,
          std::string(key) + ": " + std::to_string(channels) + (positive ? " positive" : "") +
              " numbers",
          printable_json(values));
  return values.get<std::vector<double>>();
}

std::vector<bool> flags(const json& config, const char* key, std::size_t count,
                        const std::string& where) {
  const json values = config.value(key, json());
  const bool fits = values.is_array() && values.size() == count &&
                    std::all_of(values.begin(), values.end(),
                                [](const json& value) { return value.is_boolean(); });
  require(fits, where, std::string(key) + ": " + std::to_string(count) + " of true or false",
          printable_json(values));
  return values.get<std::vector<bool>>();
}

}  // namespace

AutoencoderKlQwenImageConfig autoencoder_kl_qwen_image_config_from_json(const json& config,
                                                                        const std::string& where) {
  check_component(config, kQwenImageClass, kKnownOptions, where);
  const json scales = config.value("attn_scales", json::array());
  require(scales == json::array(), where, "attn_scales []", printable_json(scales));
  json_int(config, "input_channels", where, {.min = 3, .max = 3, .fallback = 3});

  AutoencoderKlQwenImageConfig result{
      .base_dim = json_int(config, "base_dim", where, {.min = 1, .max = kMaxChannels}),
      .z_dim = json_int(config, "z_dim", where, {.min = 1, .max = kMaxChannels}),
      .num_res_blocks = json_int(config, "num_res_blocks", where, {.min = 1, .max = 64}),
      .dim_mult = json_ints(config, "dim_mult", where, {.min = 1, .max = 64})};
  const std::size_t levels = result.dim_mult.size();
  require(levels >= 1 && levels <= 8, where, "dim_mult: 1 to 8 numbers", std::to_string(levels));
  result.temperal_downsample = flags(config, "temperal_downsample", levels - 1, where);
  result.latents_mean = channel_values(config, "latents_mean", result.z_dim, false, where);
  result.latents_std = channel_values(config, "latents_std", result.z_dim, true, where);
  return result;
}

std::shared_ptr<Vae> make_autoencoder_kl_qwen_image(const AutoencoderKlQwenImageConfig& config,
                                                    const torch::TensorOptions& options) {
  return std::make_shared<AutoencoderKlQwenImage>(config, options);
}

StoredTensors qwen_image_vae_tensors(const AutoencoderKlQwenImageConfig& config) {
  StoredTensors stored;
  stored.convert = [](const std::string& name, const torch::Tensor& value) {
    if (name.ends_with(".gamma")) return value.reshape({-1, 1, 1});
    return value.dim() == 5 ? value.select(2, -1) : value;
  };
  const std::size_t steps = config.temperal_downsample.size();
  for (std::size_t i = 0; i < steps; ++i) {
    if (!config.temperal_downsample[i]) continue;
    const auto block =
        static_cast<std::int64_t>(i) * (config.num_res_blocks + 1) + config.num_res_blocks;
    stored.ignored.push_back("encoder.down_blocks." + std::to_string(block) + ".time_conv.");
    stored.ignored.push_back("decoder.up_blocks." + std::to_string(steps - 1 - i) +
                             ".upsamplers.0.time_conv.");
  }
  return stored;
}

}  // namespace rtlynx
