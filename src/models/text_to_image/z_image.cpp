// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/z_image.h"

#include <algorithm>

#include "models/text_to_image/decoder_prompts.h"
#include "models/text_to_image/parts.h"
#include "models/text_to_image/z_image_denoiser.h"
#include "models/z_image/groups.h"
#include "models/z_image/transformer.h"

namespace rtlynx {
namespace {

// The template's are among them.
constexpr std::int64_t kMaxTokens = 512;
// Z-Image-Turbo's scheduler shifts by 3, Z-Image's by 6; nothing else in a folder tells which of
// the two it holds.
constexpr double kTurboShift = 3;

double read_shift(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "scheduler_config.json";
  return json_number(read_json_file(path), "shift", printable(path.string()), {.fallback = 1});
}

class ZImageModel : public TextToImageModel {
 public:
  ZImageModel(const std::filesystem::path& folder, const std::filesystem::path& transformer_file)
      : folder_(folder),
        source_{folder / "transformer", transformer_file},
        prompts_(folder / "tokenizer", kZImageTemplate, kMaxTokens),
        text_(read_part(folder / "text_encoder", kTextEncoderStem, qwen3_config_from_json)),
        transformer_(source_.read(z_image_config_from_json)),
        vae_(read_vae_shape(folder / "vae")),
        turbo_(read_shift(folder / "scheduler") <= kTurboShift) {
    check_that_parts_fit();
    check_tensors();
  }

  ModelFacts facts() const override {
    const std::int64_t step = vae_.factor * transformer_.patch_size;
    const auto& places = transformer_.axes_lens;
    ModelFacts facts{.latent_channels = vae_.latent_channels,
                     .latent_space = "FLUX.1",
                     .latent_factor = vae_.factor,
                     .patch = transformer_.patch_size,
                     .size = 1024,
                     .steps = turbo_ ? 8 : 50,
                     // diffusers' guidance_scale of 5 for Z-Image, one less than elsewhere.
                     .true_cfg = turbo_ ? 1.0 : 6.0,
                     .negative = "",
                     .fp32_latents = true};
    facts.max_size = std::min(facts.max_size, step * std::min(places[1], places[2]));
    return facts;
  }

  std::vector<LayerGroup> groups() const override { return z_image_groups(transformer_); }

  std::vector<ForeignModule> foreign_modules() const override {
    std::vector<std::string> blocks;
    const auto add = [&](const std::string& list, std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i) blocks.push_back(list + "." + std::to_string(i));
    };
    add("noise_refiner", transformer_.n_refiner_layers);
    add("context_refiner", transformer_.n_refiner_layers);
    add("layers", transformer_.n_layers);
    return z_image_foreign_modules(blocks);
  }

  std::shared_ptr<torch::nn::Module> outline() const override {
    return ZImageTransformer(transformer_, torch::TensorOptions(torch::kMeta)).ptr();
  }

  std::vector<std::string> warnings(std::string_view prompt) const override {
    return prompts_.warnings(prompt);
  }

  std::string encoding() const override {
    return parts_revision(folder_, {"tokenizer", "text_encoder"}) + " " + prompts_.encoding();
  }

  void check_encoder_memory(const torch::TensorOptions& options) const override {
    require_part_memory(folder_ / "text_encoder",
                        {load_z_image_text_encoder(folder_ / "text_encoder", torch::kMeta).get()},
                        options);
  }

  void check_drawing_memory(const torch::TensorOptions& options) const override {
    const auto vae = load_vae(folder_ / "vae", torch::kMeta);
    require_part_memory(source_.folder, {outline().get(), vae.get()}, options);
  }

  void encode(const std::vector<std::string>& prompts, const torch::TensorOptions& options,
              const PartCallback& on_load, const FeaturesCallback& on_features) const override {
    DecoderModel encoder =
        load_z_image_text_encoder(folder_ / "text_encoder", options, on_load("text encoder Qwen3"));
    prompts_.encode(encoder, prompts, on_features);
  }

  std::unique_ptr<Denoiser> load_denoiser(const torch::TensorOptions& options,
                                          const LoadProgress& on_progress) const override {
    return std::make_unique<ZImageDenoiser>(
        source_.load(load_z_image, transformer_, foreign_modules(), options, on_progress));
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
    fit.equal("transformer's in_channels, the VAE's latent channels,", vae_.latent_channels,
              transformer_.in_channels);
    fit.equal("transformer's patch size", 2, transformer_.patch_size);
    fit.equal("transformer's cap_feat_dim, text_encoder's hidden_size,", text_.hidden_size,
              transformer_.cap_feat_dim);
    fit.at_least("text_encoder's vocab_size", prompts_.id_limit(), "the tokenizer's ids",
                 text_.vocab_size);
    // Positions begin at 1, and the image stands one behind its caption.
    fit.at_least("transformer's axes_lens[0]", kMaxTokens + 2, "the positions of a caption",
                 transformer_.axes_lens[0]);
  }

  /// Names, types and shapes of what every part's files hold.
  void check_tensors() const {
    load_z_image_text_encoder(folder_ / "text_encoder", torch::kMeta);
    source_.check(load_z_image, *outline(), foreign_modules());
    load_vae(folder_ / "vae", torch::kMeta);
  }

  std::filesystem::path folder_;
  TransformerSource source_;
  DecoderPrompts prompts_;
  DecoderConfig text_;
  ZImageConfig transformer_;
  VaeShape vae_;
  bool turbo_;
};

}  // namespace

std::unique_ptr<TextToImageModel> open_z_image_model(
    const std::filesystem::path& folder, const std::filesystem::path& transformer_file) {
  return std::make_unique<ZImageModel>(folder, transformer_file);
}

}  // namespace rtlynx
