// SPDX-License-Identifier: Apache-2.0
#include "models/text/decoder.h"

#include <string>

#include "base/error.h"
#include "io/json.h"
#include "io/text.h"
#include "models/parameters.h"

namespace rtlynx {
namespace {

using torch::nn::ModuleDict;
using torch::nn::ModuleList;

/// x [B, heads, L, dim]: channels k and k + dim/2 are one number, turned in x's own type.
torch::Tensor turn(const torch::Tensor& x, const RotaryHalves& rotary) {
  const auto halves = x.chunk(2, -1);
  return x * rotary.cos + torch::cat({-halves[1], halves[0]}, -1) * rotary.sin;
}

// Older files name the language part "model.", newer ones "model.language_model.", and a model
// saved alone gives it no prefix.
const std::vector<std::string> kPrefixes = {"model.language_model.", "model.", ""};

DecoderModel load(const std::filesystem::path& folder, const DecoderConfig& config,
                  const DecoderExtent& extent, std::vector<std::string> ignored,
                  const torch::TensorOptions& options, const LoadProgress& on_progress) {
  DecoderModel model(config, extent, options);
  for (std::int64_t layer = extent.layers; layer < config.num_hidden_layers; ++layer) {
    ignored.push_back("layers." + std::to_string(layer) + ".");
  }
  if (!extent.final_norm) ignored.push_back("norm.weight");
  load_parameters(*model, folder, "model", {.prefixes = kPrefixes, .ignored = ignored},
                  on_progress);
  model->eval();
  return model;
}

}  // namespace

DecoderLayerImpl::DecoderLayerImpl(const DecoderConfig& config, const torch::TensorOptions& options)
    : head_dim_(config.head_dim) {
  const std::int64_t dim = config.hidden_size;
  const std::int64_t queries = config.num_attention_heads * config.head_dim;
  const std::int64_t keys = config.num_key_value_heads * config.head_dim;
  const auto norm = [&](std::int64_t channels) {
    return PlainRmsNorm(channels, config.rms_norm_eps, options);
  };
  q_proj_ = PlainLinear(dim, queries, config.qkv_bias, options);
  k_proj_ = PlainLinear(dim, keys, config.qkv_bias, options);
  v_proj_ = PlainLinear(dim, keys, config.qkv_bias, options);
  o_proj_ = PlainLinear(queries, dim, /*with_bias=*/false, options);
  gate_proj_ = PlainLinear(dim, config.intermediate_size, /*with_bias=*/false, options);
  up_proj_ = PlainLinear(dim, config.intermediate_size, /*with_bias=*/false, options);
  down_proj_ = PlainLinear(config.intermediate_size, dim, /*with_bias=*/false, options);

  ModuleDict attention, mlp;
  attention->update({{"q_proj", q_proj_.ptr()},
                     {"k_proj", k_proj_.ptr()},
                     {"v_proj", v_proj_.ptr()},
                     {"o_proj", o_proj_.ptr()}});
  if (config.qk_norm) {
    q_norm_ = norm(head_dim_);
    k_norm_ = norm(head_dim_);
    attention->update({{"q_norm", q_norm_.ptr()}, {"k_norm", k_norm_.ptr()}});
  }
  mlp->update({{"gate_proj", gate_proj_.ptr()},
               {"up_proj", up_proj_.ptr()},
               {"down_proj", down_proj_.ptr()}});
  register_module("self_attn", attention);
  register_module("mlp", mlp);
  input_layernorm_ = register_module("input_layernorm", norm(dim));
  post_attention_layernorm_ = register_module("post_attention_layernorm", norm(dim));
}

torch::Tensor DecoderLayerImpl::attend(const torch::Tensor& x, const RotaryHalves& rotary) {
  const auto heads = [&](PlainLinear& projection, PlainRmsNorm& norm) {
    torch::Tensor split = projection(x).unflatten(-1, {-1, head_dim_});
    if (!norm.is_empty()) split = norm(split);
    return split.transpose(1, 2);  // [B, heads, L, dim]
  };
  PlainRmsNorm none{nullptr};
  const torch::Tensor out = torch::scaled_dot_product_attention(
      turn(heads(q_proj_, q_norm_), rotary), turn(heads(k_proj_, k_norm_), rotary),
      heads(v_proj_, none), /*attn_mask=*/{}, /*dropout_p=*/0, /*is_causal=*/true,
      /*scale=*/std::nullopt, /*enable_gqa=*/true);
  return o_proj_(out.transpose(1, 2).flatten(2));
}

torch::Tensor DecoderLayerImpl::forward(const torch::Tensor& x, const RotaryHalves& rotary) {
  const torch::Tensor middle = x + attend(input_layernorm_(x), rotary);
  const torch::Tensor normed = post_attention_layernorm_(middle);
  return middle + down_proj_(torch::silu(gate_proj_(normed)) * up_proj_(normed));
}

DecoderModelImpl::DecoderModelImpl(const DecoderConfig& config, const DecoderExtent& extent,
                                   const torch::TensorOptions& options)
    : config_(config), options_(options) {
  require(extent.layers >= 0 && extent.layers <= config.num_hidden_layers, "DecoderModel",
          "at most " + std::to_string(config.num_hidden_layers) + " layers",
          std::to_string(extent.layers));
  embed_tokens_ =
      register_module("embed_tokens", TokenTable(config.vocab_size, config.hidden_size, options));
  auto layers = register_module("layers", ModuleList());
  for (std::int64_t i = 0; i < extent.layers; ++i) {
    layers_.emplace_back(config, options);
    layers->push_back(layers_.back());
  }
  if (extent.final_norm) {
    norm_ = register_module("norm", PlainRmsNorm(config.hidden_size, config.rms_norm_eps, options));
  }
}

RotaryHalves DecoderModelImpl::rotary(std::int64_t length) const {
  // In fp32 and then rounded, as transformers does.
  const torch::Tensor exponent = torch::arange(0, config_.head_dim, 2, torch::kFloat32) /
                                 static_cast<double>(config_.head_dim);
  const torch::Tensor frequency = 1.0 / torch::pow(config_.rope_theta, exponent);
  const torch::Tensor half = torch::outer(torch::arange(length, torch::kFloat32), frequency);
  const torch::Tensor angle = torch::cat({half, half}, -1);
  return {.cos = angle.cos().to(options_), .sin = angle.sin().to(options_)};
}

torch::Tensor DecoderModelImpl::forward(const torch::Tensor& ids) {
  torch::Tensor x = embed_tokens_(ids);
  const RotaryHalves turns = rotary(ids.size(1));
  for (auto& layer : layers_) x = layer(x, turns);
  if (!norm_.is_empty()) x = norm_(x);
  require_finite(x, "text encoder Qwen");
  return x;
}

DecoderModel load_qwen_image_text_encoder(const std::filesystem::path& folder,
                                          const torch::TensorOptions& options,
                                          const LoadProgress& on_progress) {
  const std::filesystem::path path = folder / "config.json";
  const DecoderConfig config =
      qwen2_5_vl_config_from_json(read_json_file(path), printable(path.string()));
  return load(folder, config, {.layers = config.num_hidden_layers, .final_norm = true},
              {"lm_head.weight", "visual.", "model.visual."}, options, on_progress);
}

DecoderModel load_z_image_text_encoder(const std::filesystem::path& folder,
                                       const torch::TensorOptions& options,
                                       const LoadProgress& on_progress) {
  const std::filesystem::path path = folder / "config.json";
  const DecoderConfig config =
      qwen3_config_from_json(read_json_file(path), printable(path.string()));
  return load(folder, config, {.layers = config.num_hidden_layers - 1}, {"lm_head.weight"}, options,
              on_progress);
}

}  // namespace rtlynx
