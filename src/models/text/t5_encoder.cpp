// SPDX-License-Identifier: Apache-2.0
#include "models/text/t5_encoder.h"

#include <array>

#include "base/error.h"
#include "io/json.h"
#include "io/text.h"
#include "models/parameters.h"

namespace rtlynx {
namespace {

using torch::nn::ModuleDict;
using torch::nn::ModuleList;

constexpr std::int64_t kBuckets = 32;  // 16 for keys before and at the query, 16 for those behind
constexpr std::int64_t kBehind = 16;
constexpr std::int64_t kExact = 8;  // shorter distances have a bucket each
// Where the buckets after the exact ones begin: powers of 2^(1/2) from 8 on, up to 128.
constexpr std::array<std::int64_t, 7> kFar = {12, 16, 23, 32, 46, 64, 91};

}  // namespace

torch::Tensor t5_position_buckets(std::int64_t length) {
  const torch::Tensor places = torch::arange(length, torch::kInt64);
  const torch::Tensor offset = places.unsqueeze(0) - places.unsqueeze(1);  // key - query
  const torch::Tensor distance = offset.abs();
  torch::Tensor bucket = distance.clamp_max(kExact);
  for (const std::int64_t begin : kFar) bucket = bucket + (distance >= begin);
  return bucket + (offset > 0) * kBehind;
}

T5BlockImpl::T5BlockImpl(const T5Config& config, bool with_bias_table,
                         const torch::TensorOptions& options)
    : head_dim_(config.d_kv) {
  const std::int64_t inner = config.num_heads * config.d_kv;
  const auto linear = [&](std::int64_t inputs, std::int64_t outputs) {
    return PlainLinear(inputs, outputs, /*with_bias=*/false, options);
  };
  const auto norm = [&] {
    return PlainRmsNorm(config.d_model, config.layer_norm_epsilon, options);
  };
  q_ = linear(config.d_model, inner);
  k_ = linear(config.d_model, inner);
  v_ = linear(config.d_model, inner);
  o_ = linear(inner, config.d_model);
  wi_0_ = linear(config.d_model, config.d_ff);
  wi_1_ = linear(config.d_model, config.d_ff);
  wo_ = linear(config.d_ff, config.d_model);
  attention_norm_ = norm();
  mlp_norm_ = norm();

  ModuleDict attention, mlp, attention_layer, mlp_layer;
  attention->update({{"q", q_.ptr()}, {"k", k_.ptr()}, {"v", v_.ptr()}, {"o", o_.ptr()}});
  if (with_bias_table) {
    bias_table_ = TokenTable(kBuckets, config.num_heads, options);
    attention->update({{"relative_attention_bias", bias_table_.ptr()}});
  }
  mlp->update({{"wi_0", wi_0_.ptr()}, {"wi_1", wi_1_.ptr()}, {"wo", wo_.ptr()}});
  attention_layer->update(
      {{"SelfAttention", attention.ptr()}, {"layer_norm", attention_norm_.ptr()}});
  mlp_layer->update({{"DenseReluDense", mlp.ptr()}, {"layer_norm", mlp_norm_.ptr()}});
  register_module("layer", ModuleList(attention_layer, mlp_layer));
}

torch::Tensor T5BlockImpl::position_bias(std::int64_t length) {
  return bias_table_(t5_position_buckets(length)).permute({2, 0, 1}).unsqueeze(0).contiguous();
}

torch::Tensor T5BlockImpl::attend(const torch::Tensor& x, const torch::Tensor& bias) {
  const auto heads = [&](PlainLinear& projection) {
    return projection(x).unflatten(-1, {-1, head_dim_}).transpose(1, 2);  // [B, heads, L, dim]
  };
  const torch::Tensor out =
      torch::scaled_dot_product_attention(heads(q_), heads(k_), heads(v_), bias, /*dropout_p=*/0,
                                          /*is_causal=*/false, /*scale=*/1.0);
  return o_(out.transpose(1, 2).flatten(2));
}

torch::Tensor T5BlockImpl::forward(const torch::Tensor& x, const torch::Tensor& bias) {
  const torch::Tensor middle = x + attend(attention_norm_(x), bias);
  const torch::Tensor normed = mlp_norm_(middle);
  return middle + wo_(torch::gelu(wi_0_(normed), "tanh") * wi_1_(normed));
}

T5EncoderImpl::T5EncoderImpl(const T5Config& config, const torch::TensorOptions& options)
    : config_(config) {
  shared_ = register_module("shared", TokenTable(config.vocab_size, config.d_model, options));
  ModuleList blocks;
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    blocks_.emplace_back(config, /*with_bias_table=*/i == 0, options);
    blocks->push_back(blocks_.back());
  }
  final_layer_norm_ = PlainRmsNorm(config.d_model, config.layer_norm_epsilon, options);
  ModuleDict encoder;
  encoder->update({{"block", blocks.ptr()}, {"final_layer_norm", final_layer_norm_.ptr()}});
  register_module("encoder", encoder);
}

torch::Tensor T5EncoderImpl::forward(const torch::Tensor& ids) {
  torch::Tensor x = shared_(ids);
  const torch::Tensor bias = blocks_.front()->position_bias(ids.size(1));
  for (auto& block : blocks_) x = block(x, bias);
  x = final_layer_norm_(x);
  require_finite(x, "text encoder T5");
  return x;
}

T5Encoder load_t5_encoder(const std::filesystem::path& folder, const torch::TensorOptions& options,
                          const LoadProgress& on_progress) {
  if (options.dtype() == torch::kFloat16) {
    throw UsageError("text encoder T5: required bf16 or fp32, got fp16, in which it overflows");
  }
  const std::filesystem::path path = folder / "config.json";
  T5Encoder model(t5_config_from_json(read_json_file(path), printable(path.string())), options);
  load_parameters(*model, folder, "model", {.ignored = {"encoder.embed_tokens.weight"}},
                  on_progress);
  model->eval();
  return model;
}

}  // namespace rtlynx
