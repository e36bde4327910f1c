// SPDX-License-Identifier: Apache-2.0
#include "models/vae/autoencoder_kl.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"
#include "io/json.h"
#include "models/plain_layers.h"
#include "models/vae/vae_layers.h"

namespace rtlynx {
namespace {

using nlohmann::json;
using torch::nn::ModuleDict;
using torch::nn::ModuleList;

constexpr const char* kKlClass = "AutoencoderKL";

/// Attention among all pixels with one head as wide as the channels.
class KlAttentionImpl : public torch::nn::Module {
 public:
  KlAttentionImpl(std::int64_t channels, std::int64_t groups, const torch::TensorOptions& options) {
    const auto linear = [&] {
      return PlainLinear(channels, channels, /*with_bias=*/true, options);
    };
    group_norm_ = register_module("group_norm", VaeNorm(channels, groups, options));
    to_q_ = register_module("to_q", linear());
    to_k_ = register_module("to_k", linear());
    to_v_ = register_module("to_v", linear());
    to_out_ = linear();
    register_module("to_out", ModuleList(to_out_));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    const torch::Tensor tokens = group_norm_(x).flatten(2).transpose(1, 2);  // [B, H W, C]
    const torch::Tensor out = to_out_(attend_pixels(to_q_(tokens), to_k_(tokens), to_v_(tokens)));
    return x + out.transpose(1, 2).reshape(x.sizes());
  }

 private:
  VaeNorm group_norm_{nullptr};
  PlainLinear to_q_{nullptr}, to_k_{nullptr}, to_v_{nullptr}, to_out_{nullptr};
};
TORCH_MODULE(KlAttention);

/// Resnet, attention, resnet at the lowest resolution.
class KlMidBlockImpl : public torch::nn::Module {
 public:
  KlMidBlockImpl(std::int64_t channels, std::int64_t groups, const torch::TensorOptions& options) {
    first_ = VaeResnet(channels, channels, groups, options);
    attention_ = KlAttention(channels, groups, options);
    last_ = VaeResnet(channels, channels, groups, options);
    register_module("resnets", ModuleList(first_, last_));
    register_module("attentions", ModuleList(attention_));
  }

  torch::Tensor forward(const torch::Tensor& x) { return last_(attention_(first_(x))); }

 private:
  VaeResnet first_{nullptr}, last_{nullptr};
  KlAttention attention_{nullptr};
};
TORCH_MODULE(KlMidBlock);

/// Resnets at one resolution, and the convolution that goes with the step to the next one.
class KlBlockImpl : public torch::nn::Module {
 public:
  enum class Step { halve, keep, twice };
  struct Shape {
    std::int64_t in = 0, out = 0, resnets = 0, groups = 0;
    Step step = Step::keep;
  };

  KlBlockImpl(const Shape& shape, const torch::TensorOptions& options) : step_(shape.step) {
    auto list = register_module("resnets", ModuleList());
    for (std::int64_t i = 0; i < shape.resnets; ++i) {
      resnets_.emplace_back(i == 0 ? shape.in : shape.out, shape.out, shape.groups, options);
      list->push_back(resnets_.back());
    }
    if (step_ == Step::keep) return;
    conv_ = VaeConv(ConvShape{.in = shape.out, .out = shape.out}, options);
    ModuleDict sampler;
    sampler->update({{"conv", conv_.ptr()}});
    register_module(step_ == Step::twice ? "upsamplers" : "downsamplers", ModuleList(sampler));
  }

  torch::Tensor forward(torch::Tensor x) {
    for (auto& resnet : resnets_) x = resnet(x);
    if (step_ == Step::halve) return conv_->halve(x);
    return step_ == Step::twice ? conv_(double_size(x)) : x;
  }

 private:
  Step step_;
  std::vector<VaeResnet> resnets_;
  VaeConv conv_{nullptr};
};
TORCH_MODULE(KlBlock);

class KlEncoderImpl : public torch::nn::Module {
 public:
  KlEncoderImpl(const AutoencoderKlConfig& config, const torch::TensorOptions& options) {
    const auto& channels = config.block_out_channels;
    const std::int64_t groups = config.norm_num_groups;
    conv_in_ = register_module(
        "conv_in", VaeConv(ConvShape{.in = config.in_channels, .out = channels.front()}, options));
    auto list = register_module("down_blocks", ModuleList());
    for (std::size_t i = 0; i < channels.size(); ++i) {
      const bool last = i + 1 == channels.size();
      const KlBlockImpl::Shape shape{
          .in = i == 0 ? channels.front() : channels[i - 1],
          .out = channels[i],
          .resnets = config.layers_per_block,
          .groups = groups,
          .step = last ? KlBlockImpl::Step::keep : KlBlockImpl::Step::halve};
      blocks_.emplace_back(shape, options);
      list->push_back(blocks_.back());
    }
    mid_block_ = register_module("mid_block", KlMidBlock(channels.back(), groups, options));
    conv_norm_out_ = register_module("conv_norm_out", VaeNorm(channels.back(), groups, options));
    const ConvShape out{.in = channels.back(), .out = 2 * config.latent_channels};
    conv_out_ = register_module("conv_out", VaeConv(out, options));
  }

  torch::Tensor forward(const torch::Tensor& pixels) {
    torch::Tensor x = conv_in_(pixels);
    for (auto& block : blocks_) x = block(x);
    return conv_out_(silu_over(conv_norm_out_(mid_block_(x))));
  }

 private:
  VaeConv conv_in_{nullptr}, conv_out_{nullptr};
  std::vector<KlBlock> blocks_;
  KlMidBlock mid_block_{nullptr};
  VaeNorm conv_norm_out_{nullptr};
};
TORCH_MODULE(KlEncoder);

class KlDecoderImpl : public torch::nn::Module {
 public:
  KlDecoderImpl(const AutoencoderKlConfig& config, const torch::TensorOptions& options) {
    const std::vector<std::int64_t> channels(config.block_out_channels.rbegin(),
                                             config.block_out_channels.rend());
    const std::int64_t groups = config.norm_num_groups;
    const ConvShape in{.in = config.latent_channels, .out = channels.front()};
    conv_in_ = register_module("conv_in", VaeConv(in, options));
    mid_block_ = register_module("mid_block", KlMidBlock(channels.front(), groups, options));
    auto list = register_module("up_blocks", ModuleList());
    for (std::size_t i = 0; i < channels.size(); ++i) {
      const bool last = i + 1 == channels.size();
      const KlBlockImpl::Shape shape{
          .in = i == 0 ? channels.front() : channels[i - 1],
          .out = channels[i],
          .resnets = config.layers_per_block + 1,
          .groups = groups,
          .step = last ? KlBlockImpl::Step::keep : KlBlockImpl::Step::twice};
      blocks_.emplace_back(shape, options);
      list->push_back(blocks_.back());
    }
    conv_norm_out_ = register_module("conv_norm_out", VaeNorm(channels.back(), groups, options));
    const ConvShape out{.in = channels.back(), .out = config.out_channels};
    conv_out_ = register_module("conv_out", VaeConv(out, options));
  }

  torch::Tensor forward(const torch::Tensor& latents) {
    torch::Tensor x = mid_block_(conv_in_(latents));
    for (auto& block : blocks_) x = block(x);
    return conv_out_(silu_over(conv_norm_out_(x)));
  }

 private:
  VaeConv conv_in_{nullptr}, conv_out_{nullptr};
  std::vector<KlBlock> blocks_;
  KlMidBlock mid_block_{nullptr};
  VaeNorm conv_norm_out_{nullptr};
};
TORCH_MODULE(KlDecoder);

class AutoencoderKl : public Vae {
 public:
  AutoencoderKl(const AutoencoderKlConfig& config, const torch::TensorOptions& options)
      : config_(config) {
    encoder_ = register_module("encoder", KlEncoder(config, options));
    decoder_ = register_module("decoder", KlDecoder(config, options));
  }

  torch::Tensor scaled(const torch::Tensor& latents) const override {
    return (latents - config_.shift_factor) * config_.scaling_factor;
  }
  std::int64_t latent_channels() const override { return config_.latent_channels; }
  std::int64_t factor() const override {
    return std::int64_t{1} << (config_.block_out_channels.size() - 1);
  }

 protected:
  torch::Tensor unscaled(const torch::Tensor& latents) const override {
    return latents / config_.scaling_factor + config_.shift_factor;
  }
  torch::Tensor decode_tile(const torch::Tensor& latents) override { return decoder_(latents); }
  torch::Tensor encode_tile(const torch::Tensor& pixels) override { return encoder_(pixels); }
  std::int64_t widest_channels() const override {
    const auto& channels = config_.block_out_channels;
    return channels[channels.size() > 1 ? 1 : 0];
  }

 private:
  AutoencoderKlConfig config_;
  KlEncoder encoder_{nullptr};
  KlDecoder decoder_{nullptr};
};

constexpr std::array<std::string_view, 8> kReadOptions = {
    "in_channels",     "out_channels",   "latent_channels", "layers_per_block",
    "norm_num_groups", "scaling_factor", "shift_factor",    "block_out_channels"};
// They say how the model was trained and what diffusers does with memory and types.
constexpr std::array<std::string_view, 2> kIgnoredOptions = {"sample_size", "force_upcast"};

void check_block_types(const json& config, const char* key, const char* wanted, std::size_t count,
                       const std::string& where) {
  const std::vector<std::string> types = json_strings(config, key, where);
  const bool fits =
      types.size() == count &&
      std::all_of(types.begin(), types.end(), [&](const auto& type) { return type == wanted; });
  require(fits, where, std::string(key) + ": " + std::to_string(count) + " of " + wanted,
          json(types).dump());
}

/// Every other option has to have the one value that is implemented.
void check_fixed_options(const json& config, std::size_t blocks, const std::string& where) {
  check_block_types(config, "down_block_types", "DownEncoderBlock2D", blocks, where);
  check_block_types(config, "up_block_types", "UpDecoderBlock2D", blocks, where);
  const json fixed = {{"act_fn", "silu"},        {"use_quant_conv", false},
                      {"latents_mean", nullptr}, {"use_post_quant_conv", false},
                      {"latents_std", nullptr},  {"mid_block_add_attention", true}};
  // diffusers' defaults, for keys that are absent.
  const json absent = {{"use_quant_conv", true}, {"use_post_quant_conv", true}};
  for (const auto& [key, wanted] : fixed.items()) {
    const json value = config.value(key, absent.value(key, wanted));
    require(value == wanted, where, key + " = " + wanted.dump(), printable_json(value));
  }
  for (const auto& [key, value] : config.items()) {
    const auto among = [&](const auto& names) {
      return std::find(names.begin(), names.end(), key) != names.end();
    };
    const bool known = key.starts_with("_") || among(kReadOptions) || among(kIgnoredOptions) ||
                       fixed.contains(key) || key == "down_block_types" || key == "up_block_types";
    require(known, where, std::string("only the options of a plain ") + kKlClass,
            "\"" + key + "\": " + printable_json(value) + ", which is not supported");
  }
}

}  // namespace

AutoencoderKlConfig autoencoder_kl_config_from_json(const json& config, const std::string& where) {
  const std::string kind = json_string(config, "_class_name", where);
  require(kind == kKlClass, where, std::string("_class_name ") + kKlClass, kind);
  const auto read = [&](const char* key, std::int64_t max) {
    return json_int(config, key, where, {.min = 1, .max = max});
  };
  AutoencoderKlConfig result{
      .in_channels = json_int(config, "in_channels", where, {.min = 3, .max = 3}),
      .out_channels = json_int(config, "out_channels", where, {.min = 3, .max = 3}),
      .latent_channels = read("latent_channels", kMaxChannels),
      .layers_per_block = read("layers_per_block", 64),
      .norm_num_groups = read("norm_num_groups", kMaxChannels),
      .scaling_factor = json_number(config, "scaling_factor", where, {.min = 1e-6}),
      .shift_factor = json_number(config, "shift_factor", where, {.fallback = 0.0}),
      .block_out_channels =
          json_ints(config, "block_out_channels", where, {.min = 1, .max = kMaxChannels})};
  const auto& channels = result.block_out_channels;
  const bool whole_groups = std::all_of(channels.begin(), channels.end(), [&](std::int64_t count) {
    return count % result.norm_num_groups == 0;
  });
  require(!channels.empty() && channels.size() <= 8 && whole_groups, where,
          "block_out_channels: 1 to 8 multiples of norm_num_groups = " +
              std::to_string(result.norm_num_groups),
          json(channels).dump());
  check_fixed_options(config, channels.size(), where);
  return result;
}

std::shared_ptr<Vae> make_autoencoder_kl(const AutoencoderKlConfig& config,
                                         const torch::TensorOptions& options) {
  return std::make_shared<AutoencoderKl>(config, options);
}

}  // namespace rtlynx
