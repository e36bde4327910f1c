// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/blockwise/families.h"
#include "models/flux/transformer.h"
#include "models/patches.h"
#include "models/text_to_image/prompt_rows.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kPatch = 2;

class FluxBlocks : public BlockwiseTransformer {
 public:
  explicit FluxBlocks(FluxTransformer model) : model_(std::move(model)) {}

  std::string class_name() const override { return "FluxTransformer2DModel"; }
  torch::nn::Module& module() override { return *model_; }
  const std::vector<LayerGroup>& groups() const override { return model_->groups(); }
  std::vector<FeatureShape> features() const override {
    return {
        {.name = kTokens, .channels = model_->config().joint_attention_dim},
        {.name = kPooled, .channels = model_->config().pooled_projection_dim, .has_tokens = false}};
  }
  std::int64_t latent_channels() const override {
    return model_->config().in_channels / (kPatch * kPatch);
  }
  bool reads_guidance() const override { return model_->config().guidance_embeds; }

  std::vector<std::string> blocks() const override {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < model_->double_blocks().size(); ++i) {
      names.push_back("transformer_blocks." + std::to_string(i) + ".");
    }
    for (std::size_t i = 0; i < model_->single_blocks().size(); ++i) {
      names.push_back("single_transformer_blocks." + std::to_string(i) + ".");
    }
    return names;
  }

  BlockState begin(const DenoiserInput& input) override {
    const std::int64_t height = input.latents.size(2), width = input.latents.size(3);
    const torch::TensorOptions options = like_weights(*model_);
    const torch::Tensor tokens = feature(input, kTokens, options);
    auto [streams, temb] =
        model_->begin({.hidden_states = tokens_from_pixels(input.latents.to(options), kPatch),
                       .encoder_hidden_states = tokens,
                       .pooled_projections = feature(input, kPooled, options),
                       .timestep = rounded_time(input, options),
                       .guidance = reads_guidance() ? torch::full({1}, input.guidance,
                                                                  options.dtype(torch::kFloat32))
                                                    : torch::Tensor(),
                       .img_ids = image_ids(height, width),
                       .txt_ids = torch::zeros({tokens.size(1), 3})});
    return {.image = std::move(streams.image),
            .text = std::move(streams.text),
            .temb = std::move(temb),
            .text_tokens = tokens.size(1),
            .height = height,
            .width = width};
  }

  void run_block(std::size_t block, BlockState& state) override {
    const torch::Tensor& table = rotation(state);
    const std::size_t doubles = model_->double_blocks().size();
    if (block < doubles) {
      DoubleBlock run = model_->double_blocks()[block];
      JointStreams streams =
          run(JointStreams{.text = state.text, .image = state.image}, state.temb, table);
      state.text = std::move(streams.text);
      state.image = std::move(streams.image);
      return;
    }
    join(state);
    FluxSingleBlock run = model_->single_blocks()[block - doubles];
    state.image = run(state.image, state.temb, table);
  }

  torch::Tensor finish(const BlockState& state) override {
    BlockState joint = state;
    join(joint);
    const std::int64_t tokens = joint.image.size(1) - state.text_tokens;
    const torch::Tensor velocity =
        model_->finish(joint.image.narrow(1, state.text_tokens, tokens), state.temb);
    return pixels_from_tokens(velocity, kPatch, state.height, state.width);
  }

 private:
  static torch::Tensor image_ids(std::int64_t height, std::int64_t width) {
    return image_position_ids(height / kPatch, width / kPatch).to(torch::kFloat32);
  }

  const torch::Tensor& rotation(const BlockState& state) {
    return rotations_.of(state, [&] {
      return model_->rotation(torch::zeros({state.text_tokens, 3}),
                              image_ids(state.height, state.width));
    });
  }

  static void join(BlockState& state) {
    if (!state.text.defined()) return;
    state.image = torch::cat({state.text, state.image}, /*dim=*/1);
    state.text.reset();
  }

  FluxTransformer model_;
  RotationTables rotations_;
};

}  // namespace

std::unique_ptr<BlockwiseTransformer> open_flux_blocks(const std::filesystem::path& folder,
                                                       const torch::TensorOptions& options,
                                                       const LoadProgress& on_progress) {
  return std::make_unique<FluxBlocks>(load_or_plan<FluxTransformer>(
      folder, options, on_progress, flux_config_from_json, load_flux));
}

}  // namespace rtlynx
