// SPDX-License-Identifier: Apache-2.0
#include "models/qwen_image/transformer.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "models/input_shape.h"
#include "models/load_transformer.h"
#include "models/patches.h"
#include "models/qwen_image/groups.h"

namespace rtlynx {
namespace {

constexpr const char* kOp = "QwenImageTransformer";
constexpr std::int64_t kTimeChannels = 256;
constexpr double kRotaryTheta = 10000;
constexpr double kNormEps = 1e-6;

/// Positions (image, row, column), the latter two counted from the middle.
torch::Tensor centred_ids(std::int64_t image, const TokenGrid& grid) {
  const torch::Tensor middle =
      torch::tensor({-static_cast<double>(image), static_cast<double>(grid.rows - grid.rows / 2),
                     static_cast<double>(grid.columns - grid.columns / 2)},
                    torch::kFloat32);
  return image_position_ids(grid.rows, grid.columns) - middle;
}

/// Filled on the device, so that a pass can be captured in a CUDA graph.
torch::Tensor attention_mask(const QwenImageInputs& inputs) {
  const std::int64_t batch = inputs.hidden_states.size(0);
  const std::int64_t text = inputs.encoder_hidden_states.size(1);
  const std::int64_t joint = text + inputs.hidden_states.size(1);
  const auto& lengths = inputs.text_tokens;
  const bool padded =
      std::any_of(lengths.begin(), lengths.end(), [&](std::int64_t own) { return own < text; });
  if (!padded) return {};
  const torch::Tensor mask =
      torch::ones({batch, 1, 1, joint}, inputs.hidden_states.options().dtype(torch::kBool));
  for (std::int64_t i = 0; i < batch; ++i) {
    const std::int64_t own = lengths[static_cast<std::size_t>(i)];
    mask.select(0, i).narrow(-1, own, text - own).fill_(false);
  }
  return mask;
}

}  // namespace

QwenImageTransformerImpl::QwenImageTransformerImpl(const QwenImageConfig& config,
                                                   const torch::TensorOptions& options)
    : config_(config), groups_(qwen_image_groups(config)) {
  const std::int64_t dim = config.hidden_dim();
  timestep_embedder_ =
      register_module("time_text_embed", std::make_shared<torch::nn::Module>())
          ->register_module("timestep_embedder", MlpEmbedder(kTimeChannels, dim, options));
  txt_norm_ =
      register_module("txt_norm", PlainRmsNorm(config.joint_attention_dim, kNormEps, options));
  img_in_ = register_module("img_in", SparseLinear(config.in_channels, dim, options));
  txt_in_ = register_module("txt_in", SparseLinear(config.joint_attention_dim, dim, options));
  auto blocks = register_module("transformer_blocks", torch::nn::ModuleList());
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    blocks_.emplace_back(dim, config.attention_head_dim, kQwenImageBlock, options);
    blocks->push_back(blocks_.back());
  }
  norm_out_ = register_module("norm_out", Modulation(dim, 2, options));
  const std::int64_t outputs = config.patch_size * config.patch_size * config.out_channels;
  proj_out_ = register_module("proj_out", SparseLinear(dim, outputs, options));
}

void QwenImageTransformerImpl::check(const QwenImageInputs& inputs) const {
  const torch::Tensor& image = inputs.hidden_states;
  const torch::Tensor& text = inputs.encoder_hidden_states;
  require(image.defined() && image.dim() == 3, kOp, "hidden_states [B, I, channels]",
          "another number of dimensions");
  require(text.defined() && text.dim() == 3, kOp, "encoder_hidden_states [B, T, channels]",
          "another number of dimensions");
  const std::int64_t batch = image.size(0), text_tokens = text.size(1);
  check_shape(kOp, "hidden_states", image, {batch, image.size(1), config_.in_channels});
  check_shape(kOp, "encoder_hidden_states", text,
              {batch, text_tokens, config_.joint_attention_dim});
  check_shape(kOp, "timestep", inputs.timestep, {batch});

  std::int64_t tokens = 0;
  for (const TokenGrid& grid : inputs.img_shapes) {
    require(grid.rows > 0 && grid.columns > 0, kOp, "img_shapes of at least 1 x 1 tokens",
            std::to_string(grid.rows) + " x " + std::to_string(grid.columns));
    tokens += grid.rows * grid.columns;
  }
  require(tokens == image.size(1), kOp,
          "img_shapes of the " + std::to_string(image.size(1)) + " tokens of hidden_states",
          std::to_string(tokens));
  const auto& lengths = inputs.text_tokens;
  require(lengths.empty() || static_cast<std::int64_t>(lengths.size()) == batch, kOp,
          "text_tokens of " + std::to_string(batch) + " prompts, or none",
          std::to_string(lengths.size()));
  for (const std::int64_t own : lengths) {
    require(own >= 1 && own <= text_tokens, kOp,
            "text_tokens from 1 to " + std::to_string(text_tokens), std::to_string(own));
  }
}

QwenImageTransformerImpl::Start QwenImageTransformerImpl::begin(const QwenImageInputs& inputs) {
  check(inputs);
  JointStreams streams{.text = txt_in_(txt_norm_(inputs.encoder_hidden_states)),
                       .image = img_in_(inputs.hidden_states)};
  // diffusers rounds the time to the activation's type before the factor 1000, and not behind it.
  const auto type = streams.image.scalar_type();
  const torch::Tensor time =
      sinusoidal_embedding(inputs.timestep.to(type), kTimeChannels, /*factor=*/1000);
  const torch::Tensor temb = timestep_embedder_(time.to(type));
  return {std::move(streams), temb, attention_mask(inputs)};
}

torch::Tensor QwenImageTransformerImpl::rotation(std::int64_t text_tokens,
                                                 const std::vector<TokenGrid>& img_shapes) const {
  std::vector<torch::Tensor> ids(1);  // text comes first
  std::int64_t text_start = 0;
  for (const TokenGrid& grid : img_shapes) {
    ids.push_back(centred_ids(static_cast<std::int64_t>(ids.size()) - 1, grid));
    text_start = std::max({text_start, grid.rows / 2, grid.columns / 2});
  }
  const auto axes = static_cast<std::int64_t>(config_.axes_dims_rope.size());
  ids.front() = torch::arange(text_start, text_start + text_tokens, torch::kFloat32)
                    .unsqueeze(1)
                    .expand({text_tokens, axes});
  // diffusers computes the angles in fp32.
  return rotary_table(torch::cat(ids), config_.axes_dims_rope, kRotaryTheta, torch::kFloat32);
}

torch::Tensor QwenImageTransformerImpl::finish(const torch::Tensor& image,
                                               const torch::Tensor& temb) {
  const auto mod = norm_out_(temb);  // scale, shift: the opposite order of the blocks'
  return proj_out_(modulate(layer_norm(image), mod[0], mod[1]));
}

torch::Tensor QwenImageTransformerImpl::forward(const QwenImageInputs& inputs) {
  auto [streams, temb, mask] = begin(inputs);
  const torch::Tensor table =
      rotation(streams.text.size(1), inputs.img_shapes).to(streams.image.device());
  for (DoubleBlock& block : blocks_) {
    streams = block(streams, temb, table, mask);
    streams.image = clip_half(streams.image);
  }
  return finish(streams.image, temb);
}

QwenImageTransformer load_qwen_image(const std::filesystem::path& folder,
                                     const torch::TensorOptions& options,
                                     const LoadProgress& on_progress) {
  return load_transformer<QwenImageTransformer>(folder, options, qwen_image_config_from_json,
                                                on_progress);
}

}  // namespace rtlynx
