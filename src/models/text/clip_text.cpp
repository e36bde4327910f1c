// SPDX-License-Identifier: Apache-2.0
#include "models/text/clip_text.h"

#include "base/error.h"
#include "io/json.h"
#include "io/text.h"
#include "models/parameters.h"

namespace rtlynx {
namespace {

using torch::nn::Module;
using torch::nn::ModuleDict;
using torch::nn::ModuleList;

// Of older files: it stands for the largest id of the vocabulary.
constexpr std::int64_t kLegacyEnd = 2;

torch::Tensor quick_gelu(const torch::Tensor& x) { return x * torch::sigmoid(1.702 * x); }

/// The column of each row's first end token: [B].
torch::Tensor end_columns(const torch::Tensor& ids, std::int64_t end_id) {
  return end_id == kLegacyEnd ? ids.argmax(1) : (ids == end_id).to(torch::kInt32).argmax(1);
}

}  // namespace

ClipLayerImpl::ClipLayerImpl(const ClipTextConfig& config, const torch::TensorOptions& options)
    : head_dim_(config.hidden_size / config.num_attention_heads), quick_gelu_(config.quick_gelu) {
  const std::int64_t dim = config.hidden_size;
  const auto norm = [&](const char* name) {
    return register_module(name, PlainLayerNorm(dim, config.layer_norm_eps, options));
  };
  const auto linear = [&](std::int64_t inputs, std::int64_t outputs) {
    return PlainLinear(inputs, outputs, /*with_bias=*/true, options);
  };
  layer_norm1_ = norm("layer_norm1");
  layer_norm2_ = norm("layer_norm2");
  q_proj_ = linear(dim, dim);
  k_proj_ = linear(dim, dim);
  v_proj_ = linear(dim, dim);
  out_proj_ = linear(dim, dim);
  fc1_ = linear(dim, config.intermediate_size);
  fc2_ = linear(config.intermediate_size, dim);
  ModuleDict attention, mlp;
  attention->update({{"q_proj", q_proj_.ptr()},
                     {"k_proj", k_proj_.ptr()},
                     {"v_proj", v_proj_.ptr()},
                     {"out_proj", out_proj_.ptr()}});
  mlp->update({{"fc1", fc1_.ptr()}, {"fc2", fc2_.ptr()}});
  register_module("self_attn", attention);
  register_module("mlp", mlp);
}

torch::Tensor ClipLayerImpl::attend(const torch::Tensor& x) {
  const auto heads = [&](PlainLinear& projection) {
    return projection(x).unflatten(-1, {-1, head_dim_}).transpose(1, 2);  // [B, heads, L, dim]
  };
  const torch::Tensor out =
      torch::scaled_dot_product_attention(heads(q_proj_), heads(k_proj_), heads(v_proj_),
                                          /*attn_mask=*/{}, /*dropout_p=*/0, /*is_causal=*/true);
  return out_proj_(out.transpose(1, 2).flatten(2));
}

torch::Tensor ClipLayerImpl::forward(const torch::Tensor& x) {
  const torch::Tensor middle = x + attend(layer_norm1_(x));
  const torch::Tensor wide = fc1_(layer_norm2_(middle));
  return middle + fc2_(quick_gelu_ ? quick_gelu(wide) : torch::gelu(wide));
}

ClipTextModelImpl::ClipTextModelImpl(const ClipTextConfig& config,
                                     const torch::TensorOptions& options)
    : config_(config), device_(options.device()) {
  token_embedding_ = TokenTable(config.vocab_size, config.hidden_size, options);
  position_embedding_ = TokenTable(config.max_position_embeddings, config.hidden_size, options);
  ModuleDict embeddings, encoder;
  embeddings->update({{"token_embedding", token_embedding_.ptr()},
                      {"position_embedding", position_embedding_.ptr()}});
  register_module("embeddings", embeddings);
  ModuleList layers;
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layers_.emplace_back(config, options);
    layers->push_back(layers_.back());
  }
  encoder->update({{"layers", layers.ptr()}});
  register_module("encoder", encoder);
  final_layer_norm_ = register_module(
      "final_layer_norm", PlainLayerNorm(config.hidden_size, config.layer_norm_eps, options));
}

ClipTextFeatures ClipTextModelImpl::forward(const torch::Tensor& ids) {
  const std::int64_t length = ids.size(1);
  require(length <= config_.max_position_embeddings, "CLIP",
          "at most " + std::to_string(config_.max_position_embeddings) + " tokens",
          std::to_string(length));
  torch::Tensor x =
      token_embedding_(ids) + position_embedding_(torch::arange(length, torch::kInt64));
  for (auto& layer : layers_) x = layer(x);
  const torch::Tensor tokens = final_layer_norm_(x);
  require_finite(tokens, "text encoder CLIP");
  const torch::Tensor rows = torch::arange(ids.size(0), torch::kInt64);
  const torch::Tensor ends = end_columns(ids, config_.eos_token_id);
  return {.tokens = tokens, .pooled = tokens.index({rows.to(device_), ends.to(device_)})};
}

ClipTextModel load_clip_text(const std::filesystem::path& folder,
                             const torch::TensorOptions& options, const LoadProgress& on_progress) {
  const std::filesystem::path path = folder / "config.json";
  ClipTextModel model(clip_text_config_from_json(read_json_file(path), printable(path.string())),
                      options);
  load_parameters(*model, folder, "model",
                  {.prefixes = {"text_model.", ""}, .ignored = {"embeddings.position_ids"}},
                  on_progress);
  model->eval();
  return model;
}

}  // namespace rtlynx
