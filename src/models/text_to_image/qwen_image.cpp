// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/qwen_image.h"

#include "models/qwen_image/groups.h"
#include "models/qwen_image/transformer.h"
#include "models/text_to_image/decoder_prompts.h"
#include "models/text_to_image/parts.h"
#include "models/text_to_image/qwen_image_denoiser.h"

namespace rtlynx {
namespace {

// diffusers encodes more and cuts the states.
constexpr std::int64_t kMaxTokens = 512;

class QwenImageModel : public TextToImageModel {
 public:
  QwenImageModel(const std::filesystem::path& folder, const std::filesystem::path& transformer_file)
      : folder_(folder),
        source_{folder / "transformer", transformer_file},
        prompts_(folder / "tokenizer", kQwenImageTemplate, kMaxTokens),
        text_(read_part(folder / "text_encoder", kTextEncoderStem, qwen2_5_vl_config_from_json)),
        transformer_(source_.read(qwen_image_config_from_json)),
        vae_(read_vae_shape(folder / "vae")) {
    check_that_parts_fit();
    check_tensors();
  }

  ModelFacts facts() const override {
    return {.latent_channels = vae_.latent_channels,
            .latent_space = "Qwen-Image",
            .latent_factor = vae_.factor,
            .patch = kQwenImagePatch,
            .size = 128 * vae_.factor,
            .steps = 50,
            .true_cfg = 4};
  }

  std::vector<LayerGroup> groups() const override { return qwen_image_groups(transformer_); }

  // Others use diffusers' names.
  std::vector<ForeignModule> foreign_modules() const override { return {}; }

  std::shared_ptr<torch::nn::Module> outline() const override {
    return QwenImageTransformer(transformer_, torch::TensorOptions(torch::kMeta)).ptr();
  }

  std::vector<std::string> warnings(std::string_view prompt) const override {
    return prompts_.warnings(prompt);
  }

  std::string encoding() const override {
    return parts_revision(folder_, {"tokenizer", "text_encoder"}) + " " + prompts_.encoding();
  }

  void check_encoder_memory(const torch::TensorOptions& options) const override {
    require_part_memory(
        folder_ / "text_encoder",
        {load_qwen_image_text_encoder(folder_ / "text_encoder", torch::kMeta).get()}, options);
  }

  void check_drawing_memory(const torch::TensorOptions& options) const override {
    const auto vae = load_vae(folder_ / "vae", torch::kMeta);
    require_part_memory(source_.folder, {outline().get(), vae.get()}, options);
  }

  void encode(const std::vector<std::string>& prompts, const torch::TensorOptions& options,
              const PartCallback& on_load, const FeaturesCallback& on_features) const override {
    DecoderModel encoder = load_qwen_image_text_encoder(folder_ / "text_encoder", options,
                                                        on_load("text encoder Qwen2.5-VL"));
    prompts_.encode(encoder, prompts, on_features);
  }

  std::unique_ptr<Denoiser> load_denoiser(const torch::TensorOptions& options,
                                          const LoadProgress& on_progress) const override {
    return std::make_unique<QwenImageDenoiser>(
        source_.load(load_qwen_image, transformer_, foreign_modules(), options, on_progress));
  }

  std::shared_ptr<Vae> autoencoder_outline(const torch::TensorOptions& options) const override {
    return load_vae(folder_ / "vae", options.device(torch::kMeta));
  }

  std::shared_ptr<Vae> load_autoencoder(const torch::TensorOptions& options,
                                        const LoadProgress& on_progress) const override {
    return load_vae(folder_ / "vae", options, on_progress);
  }

 private:
  void check_that_parts_fit() const {
    const PartsFit fit(folder_);
    fit.equal("transformer's in_channels, 4 for each channel of the VAE's latents,",
              kQwenImagePatch * kQwenImagePatch * vae_.latent_channels, transformer_.in_channels);
    fit.equal("transformer's patch_size^2 * out_channels as its in_channels,",
              transformer_.in_channels,
              transformer_.patch_size * transformer_.patch_size * transformer_.out_channels);
    fit.equal("transformer's joint_attention_dim, text_encoder's hidden_size,", text_.hidden_size,
              transformer_.joint_attention_dim);
    fit.at_least("text_encoder's vocab_size", prompts_.id_limit(), "the tokenizer's ids",
                 text_.vocab_size);
  }

  /// Names, types and shapes of what every part's files hold.
  void check_tensors() const {
    load_qwen_image_text_encoder(folder_ / "text_encoder", torch::kMeta);
    source_.check(load_qwen_image, *outline(), foreign_modules());
    load_vae(folder_ / "vae", torch::kMeta);
  }

  std::filesystem::path folder_;
  TransformerSource source_;
  DecoderPrompts prompts_;
  DecoderConfig text_;
  QwenImageConfig transformer_;
  VaeShape vae_;
};

}  // namespace

std::unique_ptr<TextToImageModel> open_qwen_image_model(
    const std::filesystem::path& folder, const std::filesystem::path& transformer_file) {
  return std::make_unique<QwenImageModel>(folder, transformer_file);
}

}  // namespace rtlynx
