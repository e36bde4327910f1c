// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/blockwise/families.h"
#include "models/double_block.h"
#include "models/patches.h"
#include "models/qwen_image/guidance.h"
#include "models/qwen_image/transformer.h"
#include "models/text_to_image/prompt_rows.h"

namespace rtlynx {
namespace {

class QwenImageBlocks : public BlockwiseTransformer {
 public:
  explicit QwenImageBlocks(QwenImageTransformer model) : model_(std::move(model)) {}

  std::string class_name() const override { return "QwenImageTransformer2DModel"; }
  torch::nn::Module& module() override { return *model_; }
  const std::vector<LayerGroup>& groups() const override { return model_->groups(); }
  std::vector<FeatureShape> features() const override {
    return {{.name = kTokens, .channels = model_->config().joint_attention_dim}};
  }
  std::int64_t latent_channels() const override {
    return model_->config().in_channels / (patch() * patch());
  }

  std::vector<std::string> blocks() const override {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < model_->blocks().size(); ++i) {
      names.push_back("transformer_blocks." + std::to_string(i) + ".");
    }
    return names;
  }

  BlockState begin(const DenoiserInput& input) override {
    const torch::TensorOptions options = like_weights(*model_);
    const torch::Tensor tokens = feature(input, kTokens, options);
    BlockState state;
    state.text_tokens = tokens.size(1);
    state.height = input.latents.size(2);
    state.width = input.latents.size(3);
    auto [streams, temb, mask] =
        model_->begin({.hidden_states = tokens_from_pixels(input.latents.to(options), patch()),
                       .encoder_hidden_states = tokens,
                       .text_tokens = {},
                       .timestep = rounded_time(input, options),
                       .img_shapes = grid(state)});
    state.image = std::move(streams.image);
    state.text = std::move(streams.text);
    state.temb = std::move(temb);
    return state;
  }

  void run_block(std::size_t block, BlockState& state) override {
    DoubleBlock run = model_->blocks()[block];
    const torch::Tensor& table =
        rotations_.of(state, [&] { return model_->rotation(state.text_tokens, grid(state)); });
    JointStreams streams =
        run(JointStreams{.text = state.text, .image = state.image}, state.temb, table);
    state.text = std::move(streams.text);
    state.image = clip_half(streams.image);
  }

  torch::Tensor finish(const BlockState& state) override {
    return pixels_from_tokens(model_->finish(state.image, state.temb), patch(), state.height,
                              state.width);
  }

  /// The usual guidance, then every token brought back to the norm of `wanted`.
  torch::Tensor guide(const torch::Tensor& wanted, const torch::Tensor& unwanted,
                      double strength) const override {
    return with_norms_of(wanted, BlockwiseTransformer::guide(wanted, unwanted, strength), patch());
  }

 private:
  std::int64_t patch() const { return model_->config().patch_size; }

  std::vector<TokenGrid> grid(const BlockState& state) const {
    return {{.rows = state.height / patch(), .columns = state.width / patch()}};
  }

  QwenImageTransformer model_;
  RotationTables rotations_;
};

}  // namespace

std::unique_ptr<BlockwiseTransformer> open_qwen_image_blocks(const std::filesystem::path& folder,
                                                             const torch::TensorOptions& options,
                                                             const LoadProgress& on_progress) {
  return std::make_unique<QwenImageBlocks>(load_or_plan<QwenImageTransformer>(
      folder, options, on_progress, qwen_image_config_from_json, load_qwen_image));
}

}  // namespace rtlynx
