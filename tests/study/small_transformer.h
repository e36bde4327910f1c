// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/libtorch.h"
#include "models/blockwise/blockwise.h"
#include "models/flux/transformer.h"
#include "models/parameters.h"
#include "models/qwen_image/transformer.h"
#include "models/tensor_bytes.h"
#include "models/z_image/transformer.h"

namespace rtlynx::test {

inline const FluxConfig kSmallFlux{.in_channels = 16,
                                   .out_channels = 16,
                                   .num_layers = 1,
                                   .num_single_layers = 2,
                                   .attention_head_dim = 16,
                                   .num_attention_heads = 2,
                                   .joint_attention_dim = 24,
                                   .pooled_projection_dim = 20,
                                   .guidance_embeds = true,
                                   .axes_dims_rope = {4, 6, 6}};
inline const QwenImageConfig kSmallQwenImage{.in_channels = 16,
                                             .out_channels = 4,
                                             .num_layers = 2,
                                             .attention_head_dim = 16,
                                             .num_attention_heads = 2,
                                             .joint_attention_dim = 24,
                                             .axes_dims_rope = {4, 6, 6}};
inline const ZImageConfig kSmallZImage{.in_channels = 4,
                                       .dim = 48,
                                       .n_layers = 2,
                                       .n_refiner_layers = 1,
                                       .n_heads = 3,
                                       .cap_feat_dim = 16,
                                       .axes_dims = {4, 6, 6},
                                       .axes_lens = {128, 32, 32}};

/// Writes a small random model's transformer/, weights in bf16 that keep activations of order one.
template <typename Transformer, typename Config>
void write_transformer(const std::filesystem::path& folder, const Config& config) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(5);
  Transformer model(config);
  for (auto& item : model->named_parameters()) {
    torch::Tensor& value = item.value();
    const bool is_norm = value.dim() == 1 && item.key().ends_with("weight");
    value.normal_(is_norm ? 1.0 : 0.0,
                  value.dim() == 2 ? 1 / std::sqrt(static_cast<double>(value.size(1))) : 0.1);
  }
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << to_json(config).dump();
  save_parameters(*model, folder, "diffusion_pytorch_model", torch::kBFloat16,
                  std::size_t{1} << 30);
}

/// The same of a family by name.
inline void write_transformer(const std::filesystem::path& folder, const std::string& family) {
  if (family == "flux") write_transformer<FluxTransformer>(folder, kSmallFlux);
  if (family == "qwen_image") write_transformer<QwenImageTransformer>(folder, kSmallQwenImage);
  if (family == "z_image") write_transformer<ZImageTransformer>(folder, kSmallZImage);
}

/// Random features of a prompt.
inline PromptFeatures some_features(const std::vector<FeatureShape>& shapes, std::int64_t tokens) {
  PromptFeatures features;
  for (const FeatureShape& shape : shapes) {
    features[shape.name] =
        shape.has_tokens ? torch::randn({tokens, shape.channels}) : torch::randn({shape.channels});
  }
  return features;
}

/// Writes embeddings of `count` prompts of different lengths, and of a negative one if asked for.
inline void write_embeddings(const std::filesystem::path& path,
                             const std::vector<FeatureShape>& shapes, std::int64_t count,
                             bool negative) {
  torch::manual_seed(6);
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  const auto add = [&](const std::string& prompt, std::int64_t tokens) {
    for (const auto& [name, value] : some_features(shapes, tokens)) {
      tensors.emplace_back(prompt + "." + name, value);
    }
  };
  for (std::int64_t i = 0; i < count; ++i) add(std::to_string(i), 5 + 3 * i);
  if (negative) add("negative", 4);
  write_safetensors(path, TensorBytes(tensors).entries());
}

}  // namespace rtlynx::test
