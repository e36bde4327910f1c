// SPDX-License-Identifier: Apache-2.0
#include "models/flux/transformer.h"

#include "base/error.h"
#include "models/flux/groups.h"
#include "models/input_shape.h"
#include "models/load_transformer.h"

namespace rtlynx {
namespace {

constexpr const char* kOp = "FluxTransformer";
constexpr std::int64_t kTimeChannels = 256;
constexpr double kRotaryTheta = 10000;

}  // namespace

FluxConditioningImpl::FluxConditioningImpl(const FluxConfig& config,
                                           const torch::TensorOptions& options) {
  const std::int64_t dim = config.hidden_dim();
  timestep_embedder_ =
      register_module("timestep_embedder", MlpEmbedder(kTimeChannels, dim, options));
  if (config.guidance_embeds) {
    guidance_embedder_ =
        register_module("guidance_embedder", MlpEmbedder(kTimeChannels, dim, options));
  }
  text_embedder_ =
      register_module("text_embedder", MlpEmbedder(config.pooled_projection_dim, dim, options));
}

torch::Tensor FluxConditioningImpl::forward(const torch::Tensor& timestep,
                                            const torch::Tensor& guidance,
                                            const torch::Tensor& pooled) {
  const auto embed = [&](MlpEmbedder& embedder, const torch::Tensor& value) {
    return embedder(sinusoidal_embedding(value, kTimeChannels).to(pooled.scalar_type()));
  };
  torch::Tensor conditioning = embed(timestep_embedder_, timestep);
  if (!guidance_embedder_.is_empty()) {
    conditioning = conditioning + embed(guidance_embedder_, guidance);
  }
  return conditioning + text_embedder_(pooled);
}

FluxTransformerImpl::FluxTransformerImpl(const FluxConfig& config,
                                         const torch::TensorOptions& options)
    : config_(config), groups_(flux_groups(config)) {
  const std::int64_t dim = config.hidden_dim();
  time_text_embed_ = register_module("time_text_embed", FluxConditioning(config, options));
  context_embedder_ =
      register_module("context_embedder", SparseLinear(config.joint_attention_dim, dim, options));
  x_embedder_ = register_module("x_embedder", SparseLinear(config.in_channels, dim, options));

  auto double_blocks = register_module("transformer_blocks", torch::nn::ModuleList());
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    double_blocks_.emplace_back(dim, config.attention_head_dim, kFluxDoubleBlock, options);
    double_blocks->push_back(double_blocks_.back());
  }
  auto single_blocks = register_module("single_transformer_blocks", torch::nn::ModuleList());
  for (std::int64_t i = 0; i < config.num_single_layers; ++i) {
    single_blocks_.emplace_back(config, options);
    single_blocks->push_back(single_blocks_.back());
  }

  norm_out_ = register_module("norm_out", Modulation(dim, 2, options));
  const std::int64_t outputs = config.patch_size * config.patch_size * config.out_channels;
  proj_out_ = register_module("proj_out", SparseLinear(dim, outputs, options));
}

void FluxTransformerImpl::check(const FluxInputs& inputs) const {
  require(inputs.hidden_states.defined() && inputs.hidden_states.dim() == 3, kOp,
          "hidden_states [B, I, channels]", "another number of dimensions");
  require(inputs.encoder_hidden_states.defined() && inputs.encoder_hidden_states.dim() == 3, kOp,
          "encoder_hidden_states [B, T, channels]", "another number of dimensions");
  const std::int64_t batch = inputs.hidden_states.size(0);
  const std::int64_t image_tokens = inputs.hidden_states.size(1);
  const std::int64_t text_tokens = inputs.encoder_hidden_states.size(1);
  const auto axes = static_cast<std::int64_t>(config_.axes_dims_rope.size());
  check_shape(kOp, "hidden_states", inputs.hidden_states,
              {batch, image_tokens, config_.in_channels});
  check_shape(kOp, "encoder_hidden_states", inputs.encoder_hidden_states,
              {batch, text_tokens, config_.joint_attention_dim});
  check_shape(kOp, "pooled_projections", inputs.pooled_projections,
              {batch, config_.pooled_projection_dim});
  check_shape(kOp, "timestep", inputs.timestep, {batch});
  check_shape(kOp, "img_ids", inputs.img_ids, {image_tokens, axes});
  check_shape(kOp, "txt_ids", inputs.txt_ids, {text_tokens, axes});
  if (config_.guidance_embeds) {
    check_shape(kOp, "guidance", inputs.guidance, {batch});
  } else {
    require(!inputs.guidance.defined(), kOp,
            "no guidance, since the config has guidance_embeds = false", "a guidance tensor");
  }
}

FluxTransformerImpl::Start FluxTransformerImpl::begin(const FluxInputs& inputs) {
  check(inputs);
  JointStreams streams{.text = context_embedder_(inputs.encoder_hidden_states),
                       .image = x_embedder_(inputs.hidden_states)};
  // diffusers rounds the time to the activation's type before and after the factor 1000.
  const auto type = streams.image.scalar_type();
  const torch::Tensor timestep = inputs.timestep.to(type) * 1000;
  const torch::Tensor guidance =
      config_.guidance_embeds ? inputs.guidance.to(type) * 1000 : torch::Tensor();
  return {std::move(streams), time_text_embed_(timestep, guidance, inputs.pooled_projections)};
}

torch::Tensor FluxTransformerImpl::rotation(const torch::Tensor& txt_ids,
                                            const torch::Tensor& img_ids) const {
  return rotary_table(torch::cat({txt_ids, img_ids}), config_.axes_dims_rope, kRotaryTheta);
}

torch::Tensor FluxTransformerImpl::finish(const torch::Tensor& image, const torch::Tensor& temb) {
  const auto mod = norm_out_(temb);  // scale, shift: the opposite order of the blocks'
  return proj_out_(modulate(layer_norm(image), mod[0], mod[1]));
}

torch::Tensor FluxTransformerImpl::forward(const FluxInputs& inputs) {
  auto [streams, temb] = begin(inputs);
  const torch::Tensor table = rotation(inputs.txt_ids, inputs.img_ids);
  for (auto& block : double_blocks_) streams = block(streams, temb, table);

  const std::int64_t text_tokens = streams.text.size(1);
  torch::Tensor joint = torch::cat({streams.text, streams.image}, /*dim=*/1);
  for (auto& block : single_blocks_) joint = block(joint, temb, table);
  return finish(joint.narrow(1, text_tokens, joint.size(1) - text_tokens), temb);
}

FluxTransformer load_flux(const std::filesystem::path& folder, const torch::TensorOptions& options,
                          const LoadProgress& on_progress) {
  return load_transformer<FluxTransformer>(folder, options, flux_config_from_json, on_progress);
}

}  // namespace rtlynx
