// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/blockwise/families.h"
#include "models/z_image/transformer.h"

namespace rtlynx {
namespace {

class ZImageBlocks : public BlockwiseTransformer {
 public:
  explicit ZImageBlocks(ZImageTransformer model) : model_(std::move(model)) {}

  std::string class_name() const override { return "ZImageTransformer2DModel"; }
  torch::nn::Module& module() override { return *model_; }
  const std::vector<LayerGroup>& groups() const override { return model_->groups(); }
  std::vector<FeatureShape> features() const override {
    return {{.name = kTokens, .channels = model_->config().cap_feat_dim}};
  }
  std::int64_t latent_channels() const override { return model_->config().in_channels; }

  std::vector<std::string> blocks() const override {
    std::vector<std::string> names;
    const auto add = [&](const char* list, std::size_t count) {
      for (std::size_t i = 0; i < count; ++i) {
        names.push_back(std::string(list) + "." + std::to_string(i) + ".");
      }
    };
    add("noise_refiner", model_->noise_refiner().size());
    add("context_refiner", model_->context_refiner().size());
    add("layers", model_->layers().size());
    return names;
  }

  BlockState begin(const DenoiserInput& input) override {
    const torch::TensorOptions options = like_weights(*model_);
    const torch::Tensor level =
        torch::full({1}, 1000 * static_cast<float>(input.sigma), options.dtype(torch::kFloat32));
    // The time stays in fp32 whatever the weights' type.
    const ZImageInputs inputs{.hidden_states = input.latents.to(options),
                              .encoder_hidden_states = feature(input, kTokens, options),
                              .caption_tokens = {},
                              .timestep = (1000 - level) / 1000};
    auto [image, caption, temb] = model_->begin(inputs);
    return {.image = std::move(image),
            .text = std::move(caption),
            .temb = std::move(temb),
            .text_tokens = inputs.encoder_hidden_states.size(1),
            .height = input.latents.size(2),
            .width = input.latents.size(3)};
  }

  void run_block(std::size_t block, BlockState& state) override {
    const ZImageSequence sequence = sequence_of(state);
    const torch::Tensor& rotation = rotations_.of(
        state, [&] { return z_image_rotation(z_image_positions(sequence), model_->config()); });
    const auto rows = [&](std::int64_t first, std::int64_t count) {
      return ZImageTokens{.rotation = rotation.narrow(1, first, count), .mask = {}};
    };
    const std::int64_t image_tokens = sequence.image_tokens();
    const auto& of_image = model_->noise_refiner();
    const auto& of_caption = model_->context_refiner();
    if (block < of_image.size()) {
      ZImageBlock run = of_image[block];
      state.image = run(state.image, state.temb, rows(0, image_tokens));
    } else if (block < of_image.size() + of_caption.size()) {
      ZImageBlock run = of_caption[block - of_image.size()];
      state.text = run(state.text, state.temb, rows(image_tokens, sequence.caption_tokens()));
    } else {
      if (state.text.defined()) state.image = torch::cat({state.image, state.text}, /*dim=*/1);
      state.text.reset();
      ZImageBlock run = model_->layers()[block - of_image.size() - of_caption.size()];
      state.image = run(state.image, state.temb, rows(0, sequence.joint_tokens()));
    }
  }

  torch::Tensor finish(const BlockState& state) override {
    const ZImageSequence sequence = sequence_of(state);
    // The transformer gives the negative of the velocity.
    return -model_->finish(state.image.narrow(1, 0, sequence.patches()), state.temb, sequence)
                .to(torch::kFloat32);
  }

 private:
  ZImageSequence sequence_of(const BlockState& state) const {
    const std::int64_t patch = model_->config().patch_size;
    return {.rows = state.height / patch,
            .columns = state.width / patch,
            .captions = {state.text_tokens}};
  }

  ZImageTransformer model_;
  RotationTables rotations_;
};

}  // namespace

std::unique_ptr<BlockwiseTransformer> open_z_image_blocks(const std::filesystem::path& folder,
                                                          const torch::TensorOptions& options,
                                                          const LoadProgress& on_progress) {
  return std::make_unique<ZImageBlocks>(load_or_plan<ZImageTransformer>(
      folder, options, on_progress, z_image_config_from_json, load_z_image));
}

}  // namespace rtlynx
