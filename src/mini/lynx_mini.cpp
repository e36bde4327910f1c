// SPDX-License-Identifier: Apache-2.0
#include "mini/lynx_mini.h"

#include <cmath>

#include "mini/scenes/caption.h"
#include "models/recipe.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kHeadDim = 64;
constexpr std::int64_t kTextChannels = 128;
constexpr std::int64_t kPatch = 4;
constexpr double kShift = 2.0;

bool starts_at_zero(const std::string& name) {
  // Modulation (norm*.linear) and the final projection.
  return name == "proj_out" || (name.find("norm") != std::string::npos && name.ends_with("linear"));
}

void initialise(FluxTransformer& model) {
  const torch::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    if (item.key().find(".norm_") != std::string::npos) item.value().fill_(1.0);  // q and k norms
  }
  for (auto& [name, linear] : named_linears(*model)) {
    if (starts_at_zero(name)) {
      linear->weight.zero_();
      linear->bias.zero_();
      continue;
    }
    // torch.nn.Linear's default: uniform within 1 / sqrt(inputs), weights and bias alike.
    const double bound = 1.0 / std::sqrt(static_cast<double>(linear->in_features()));
    linear->weight.uniform_(-bound, bound);
    linear->bias.uniform_(-bound, bound);
  }
}

}  // namespace

Pipeline make_lynx_mini(const LynxMiniShape& shape, std::uint64_t seed) {
  torch::manual_seed(seed);
  Pipeline pipeline;
  pipeline.name = "lynx-mini";
  pipeline.patch = kPatch;
  pipeline.trained_size = kSceneSide;
  pipeline.scheduler.shift = kShift;
  pipeline.text_encoder = TextEncoder(scene_vocabulary(), kMaxTokens, kTextChannels);
  pipeline.transformer = FluxTransformer(FluxConfig{
      .in_channels = 3 * kPatch * kPatch,
      .out_channels = 3 * kPatch * kPatch,
      .num_layers = shape.double_blocks,
      .num_single_layers = shape.single_blocks,
      .attention_head_dim = kHeadDim,
      .num_attention_heads = shape.heads,
      .joint_attention_dim = kTextChannels,
      .pooled_projection_dim = kTextChannels,
      .axes_dims_rope = {16, 24, 24},
  });
  initialise(pipeline.transformer);
  const torch::NoGradGuard no_grad;
  pipeline.text_encoder->token_embedding.normal_();
  pipeline.text_encoder->position_embedding.normal_();
  return pipeline;
}

}  // namespace rtlynx
