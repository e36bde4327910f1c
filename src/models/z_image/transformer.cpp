// SPDX-License-Identifier: Apache-2.0
#include "models/z_image/transformer.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "layers/embedding.h"
#include "layers/modulation.h"
#include "models/input_shape.h"
#include "models/load_transformer.h"
#include "models/z_image/groups.h"

namespace rtlynx {
namespace {

constexpr const char* kOp = "ZImageTransformer";
constexpr std::int64_t kTimeChannels = 256;
constexpr std::int64_t kTimeHidden = 1024;

/// Latents [B, C, H, W] -> patches [B, rows * columns, p p C], a patch's channels ordered
/// (dy, dx, c).
torch::Tensor patchify(const torch::Tensor& latents, const ZImageConfig& config,
                       const ZImageSequence& sequence) {
  const std::int64_t p = config.patch_size;
  return latents.reshape({-1, config.in_channels, sequence.rows, p, sequence.columns, p})
      .permute({0, 2, 4, 3, 5, 1})
      .reshape({-1, sequence.patches(), config.token_channels()});
}

/// Its inverse.
torch::Tensor unpatchify(const torch::Tensor& patches, const ZImageConfig& config,
                         const ZImageSequence& sequence) {
  const std::int64_t p = config.patch_size;
  return patches.reshape({-1, sequence.rows, sequence.columns, p, p, config.in_channels})
      .permute({0, 5, 1, 3, 2, 4})
      .reshape({-1, config.in_channels, sequence.rows * p, sequence.columns * p});
}

}  // namespace

ZImageTransformerImpl::ZImageTransformerImpl(const ZImageConfig& config,
                                             const torch::TensorOptions& options)
    : config_(config), groups_(z_image_groups(config)) {
  using torch::nn::ModuleList;
  const std::int64_t dim = config.dim, time_dim = config.time_dim();
  // diffusers keeps these by patch size, and in lists whose other slots have no parameters.
  const std::string patch = std::to_string(config.patch_size) + "-1";
  x_embedder_ = SparseLinear(config.token_channels(), dim, options);
  register_module("all_x_embedder", std::make_shared<torch::nn::Module>())
      ->register_module(patch, x_embedder_);
  final_linear_ = SparseLinear(dim, config.token_channels(), options);
  final_modulation_ = SparseLinear(time_dim, dim, options);
  auto final_layer = register_module("all_final_layer", std::make_shared<torch::nn::Module>())
                         ->register_module(patch, std::make_shared<torch::nn::Module>());
  final_layer->register_module("linear", final_linear_);
  final_layer->register_module("adaLN_modulation",
                               ModuleList(torch::nn::Identity(), final_modulation_));

  const auto add_blocks = [&](const char* name, std::int64_t count, ZImageBlockImpl::Kind kind,
                              std::vector<ZImageBlock>& blocks) {
    auto list = register_module(name, ModuleList());
    for (std::int64_t i = 0; i < count; ++i) {
      blocks.emplace_back(config, kind, options);
      list->push_back(blocks.back());
    }
  };
  using Kind = ZImageBlockImpl::Kind;
  add_blocks("noise_refiner", config.n_refiner_layers, Kind::modulated, noise_refiner_);
  add_blocks("context_refiner", config.n_refiner_layers, Kind::plain, context_refiner_);
  time_in_ = SparseLinear(kTimeChannels, kTimeHidden, options);
  time_out_ = SparseLinear(kTimeHidden, time_dim, options);
  register_module("t_embedder", std::make_shared<torch::nn::Module>())
      ->register_module("mlp", ModuleList(time_in_, torch::nn::Identity(), time_out_));
  caption_norm_ = PlainRmsNorm(config.cap_feat_dim, config.norm_eps, options);
  caption_linear_ = SparseLinear(config.cap_feat_dim, dim, options);
  register_module("cap_embedder", ModuleList(caption_norm_, caption_linear_));
  x_pad_token_ = register_parameter("x_pad_token", torch::empty({1, dim}, options));
  cap_pad_token_ = register_parameter("cap_pad_token", torch::empty({1, dim}, options));
  add_blocks("layers", config.n_layers, Kind::modulated, layers_);
}

void ZImageTransformerImpl::check(const ZImageInputs& inputs) const {
  const torch::Tensor& latents = inputs.hidden_states;
  const torch::Tensor& captions = inputs.encoder_hidden_states;
  require(latents.defined() && latents.dim() == 4, kOp, "hidden_states [B, channels, H, W]",
          "another number of dimensions");
  require(captions.defined() && captions.dim() == 3, kOp, "encoder_hidden_states [B, T, channels]",
          "another number of dimensions");
  const std::int64_t batch = latents.size(0), text_tokens = captions.size(1);
  const std::int64_t height = latents.size(2), width = latents.size(3), patch = config_.patch_size;
  check_shape(kOp, "hidden_states", latents, {batch, config_.in_channels, height, width});
  check_shape(kOp, "encoder_hidden_states", captions, {batch, text_tokens, config_.cap_feat_dim});
  check_shape(kOp, "timestep", inputs.timestep, {batch});
  const std::string size = std::to_string(height) + " x " + std::to_string(width);
  require(batch > 0 && height > 0 && width > 0 && height % patch == 0 && width % patch == 0, kOp,
          "at least one image, its height and width divisible by " + std::to_string(patch),
          std::to_string(batch) + " of " + size);
  const auto& lengths = inputs.caption_tokens;
  require(lengths.empty() || static_cast<std::int64_t>(lengths.size()) == batch, kOp,
          "caption_tokens of " + std::to_string(batch) + " captions, or none",
          std::to_string(lengths.size()));
  require(text_tokens > 0, kOp, "captions of at least one token", "none");
  for (const std::int64_t own : lengths) {
    require(own >= 1 && own <= text_tokens, kOp,
            "caption_tokens from 1 to " + std::to_string(text_tokens), std::to_string(own));
  }
  // The image stands one behind its caption.
  const std::int64_t longest =
      lengths.empty() ? text_tokens : *std::max_element(lengths.begin(), lengths.end());
  const auto& most = config_.axes_lens;
  require(ZImageSequence::padded(longest) + 2 <= most[0] && height / patch <= most[1] &&
              width / patch <= most[2],
          kOp, "positions within axes_lens " + nlohmann::json(most).dump(),
          std::to_string(longest) + " tokens of caption and latents of " + size);
}

ZImageSequence ZImageTransformerImpl::sequence(const ZImageInputs& inputs) const {
  ZImageSequence sequence{.rows = inputs.hidden_states.size(2) / config_.patch_size,
                          .columns = inputs.hidden_states.size(3) / config_.patch_size,
                          .captions = inputs.caption_tokens};
  if (sequence.captions.empty()) {
    sequence.captions.assign(static_cast<std::size_t>(inputs.hidden_states.size(0)),
                             inputs.encoder_hidden_states.size(1));
  }
  return sequence;
}

torch::Tensor ZImageTransformerImpl::embed_captions(const torch::Tensor& captions,
                                                    const ZImageSequence& sequence) {
  const torch::Tensor embedded = caption_linear_(caption_norm_(captions));  // [B, T, d]
  std::vector<torch::Tensor> rows;
  for (std::int64_t i = 0; i < sequence.batch(); ++i) {
    const std::int64_t own = sequence.captions[static_cast<std::size_t>(i)];
    const std::int64_t whole = ZImageSequence::padded(own);
    rows.push_back(torch::cat(
        {embedded[i].narrow(0, 0, own), cap_pad_token_.expand({whole - own, config_.dim}),
         torch::zeros({sequence.caption_tokens() - whole, config_.dim}, embedded.options())}));
  }
  return torch::stack(rows);
}

ZImageTransformerImpl::Start ZImageTransformerImpl::begin(const ZImageInputs& inputs) {
  check(inputs);
  const ZImageSequence sequence = this->sequence(inputs);
  const torch::Tensor patches = x_embedder_(patchify(inputs.hidden_states, config_, sequence));
  const torch::Tensor padding = x_pad_token_.expand(
      {sequence.batch(), sequence.image_tokens() - sequence.patches(), config_.dim});
  const torch::Tensor wave = sinusoidal_embedding(inputs.timestep * config_.t_scale, kTimeChannels)
                                 .to(time_in_->weight.scalar_type());
  return {.image = torch::cat({patches, padding}, /*dim=*/1),
          .caption = embed_captions(inputs.encoder_hidden_states, sequence),
          .temb = time_out_(torch::silu(time_in_(wave))).to(inputs.hidden_states.scalar_type())};
}

torch::Tensor ZImageTransformerImpl::rotation(const ZImageInputs& inputs) const {
  check(inputs);
  return z_image_rotation(z_image_positions(sequence(inputs)), config_);
}

torch::Tensor ZImageTransformerImpl::finish(const torch::Tensor& patches, const torch::Tensor& temb,
                                            const ZImageSequence& sequence) {
  const torch::Tensor scale = 1 + final_modulation_(torch::silu(temb)).unsqueeze(1);
  return unpatchify(final_linear_(layer_norm(patches) * scale), config_, sequence);
}

torch::Tensor ZImageTransformerImpl::forward(const ZImageInputs& inputs) {
  auto [image, caption, temb] = begin(inputs);
  const ZImageSequence sequence = this->sequence(inputs);
  const std::int64_t image_tokens = sequence.image_tokens(),
                     text_tokens = sequence.caption_tokens();
  const ZImageTokens joint{.rotation = rotation(inputs).to(image.device()),
                           .mask = z_image_mask(sequence, image.device())};

  const ZImageTokens of_image{joint.rotation.narrow(1, 0, image_tokens), {}};
  for (auto& block : noise_refiner_) image = block(image, temb, of_image);
  const ZImageTokens of_caption{
      joint.rotation.narrow(1, image_tokens, text_tokens),
      joint.mask.defined() ? joint.mask.narrow(3, image_tokens, text_tokens) : torch::Tensor()};
  for (auto& block : context_refiner_) caption = block(caption, temb, of_caption);

  torch::Tensor x = torch::cat({image, caption}, /*dim=*/1);
  for (auto& block : layers_) x = block(x, temb, joint);
  return finish(x.narrow(1, 0, sequence.patches()), temb, sequence);
}

ZImageTransformer load_z_image(const std::filesystem::path& folder,
                               const torch::TensorOptions& options,
                               const LoadProgress& on_progress) {
  return load_transformer<ZImageTransformer>(folder, options, z_image_config_from_json,
                                             on_progress);
}

}  // namespace rtlynx
