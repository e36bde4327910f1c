// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/flux.h"

#include <string>
#include <utility>

#include "models/flux/groups.h"
#include "models/flux/transformer.h"
#include "models/text/text_features.h"
#include "models/text_to_image/flux_denoiser.h"
#include "models/text_to_image/parts.h"

namespace rtlynx {
namespace {

class FluxModel : public TextToImageModel {
 public:
  FluxModel(const std::filesystem::path& folder, const std::filesystem::path& transformer_file)
      : folder_(folder),
        source_{folder / "transformer", transformer_file},
        clip_tokenizer_(folder / "tokenizer", clip_tokenizer_options()),
        t5_tokenizer_(folder / "tokenizer_2"),
        clip_(read_part(folder / "text_encoder", kTextEncoderStem, clip_text_config_from_json)),
        t5_(read_part(folder / "text_encoder_2", kTextEncoderStem, t5_config_from_json)),
        transformer_(source_.read(flux_config_from_json)),
        vae_(read_vae_shape(folder / "vae")) {
    check_that_parts_fit();
    check_tensors();
  }

  ModelFacts facts() const override {
    const bool distilled = transformer_.guidance_embeds;
    return {.latent_channels = vae_.latent_channels,
            .latent_space = "FLUX.1",
            .latent_factor = vae_.factor,
            .patch = kFluxPatch,
            .size = 128 * vae_.factor,
            .steps = distilled ? 28 : 4,
            .distilled_guidance = distilled,
            .guidance = distilled ? 3.5 : 0,
            .text_tokens = t5_length()};
  }

  std::vector<LayerGroup> groups() const override { return flux_groups(transformer_); }

  std::vector<ForeignModule> foreign_modules() const override {
    return flux_foreign_modules(transformer_.num_layers, transformer_.num_single_layers);
  }

  std::shared_ptr<torch::nn::Module> outline() const override {
    return FluxTransformer(transformer_, torch::TensorOptions(torch::kMeta)).ptr();
  }

  std::vector<std::string> warnings(std::string_view prompt) const override {
    std::vector<std::string> sentences;
    const auto add = [&](const char* encoder, std::int64_t limit, std::int64_t cut) {
      if (cut == 0) return;
      sentences.push_back(std::string(encoder) + " reads " + std::to_string(limit) +
                          " tokens; the last " + std::to_string(cut) + " of the prompt were cut");
    };
    add("CLIP", kClipTokens - 2, clip_prompt_ids(clip_tokenizer_, prompt).cut);
    add("T5", t5_length() - 1, t5_prompt_ids(t5_tokenizer_, prompt, t5_length()).cut);
    return sentences;
  }

  std::string encoding() const override {
    return parts_revision(folder_, {"tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2"}) +
           " " + std::to_string(t5_length());
  }

  void check_encoder_memory(const torch::TensorOptions& options) const override {
    require_part_memory(folder_ / "text_encoder",
                        {load_clip_text(folder_ / "text_encoder", torch::kMeta).get()}, options);
    require_part_memory(folder_ / "text_encoder_2",
                        {load_t5_encoder(folder_ / "text_encoder_2", torch::kMeta).get()}, options);
  }

  void check_drawing_memory(const torch::TensorOptions& options) const override {
    const auto vae = load_vae(folder_ / "vae", torch::kMeta);
    require_part_memory(source_.folder, {outline().get(), vae.get()}, options);
  }

  void encode(const std::vector<std::string>& prompts, const torch::TensorOptions& options,
              const PartCallback& on_load, const FeaturesCallback& on_features) const override {
    // One prompt at a time: many of them at once would need memory beyond the weights.
    const std::vector<torch::Tensor> pooled = encode_by_clip(prompts, options, on_load);
    T5Encoder t5 = load_t5_encoder(folder_ / "text_encoder_2", options, on_load("text encoder T5"));
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const PromptIds ids = t5_prompt_ids(t5_tokenizer_, prompts[i], t5_length());
      const torch::Tensor tokens = t5_tokens(t5, {{ids}}).squeeze(0);
      on_features(i, {{kFluxPooled, pooled[i]}, {kFluxTokens, tokens.to(torch::kCPU)}});
    }
  }

  std::unique_ptr<Denoiser> load_denoiser(const torch::TensorOptions& options,
                                          const LoadProgress& on_progress) const override {
    return std::make_unique<FluxDenoiser>(
        source_.load(load_flux, transformer_, foreign_modules(), options, on_progress));
  }

  std::shared_ptr<Vae> autoencoder_outline(const torch::TensorOptions& options) const override {
    return load_vae(folder_ / "vae", options.device(torch::kMeta));
  }

  std::shared_ptr<Vae> load_autoencoder(const torch::TensorOptions& options,
                                        const LoadProgress& on_progress) const override {
    return load_vae(folder_ / "vae", options, on_progress);
  }

 private:
  /// schnell, the model without guidance, was trained on half of dev's length.
  std::int64_t t5_length() const { return transformer_.guidance_embeds ? 512 : 256; }

  /// A few kilobytes for each prompt.
  std::vector<torch::Tensor> encode_by_clip(const std::vector<std::string>& prompts,
                                            const torch::TensorOptions& options,
                                            const PartCallback& on_load) const {
    ClipTextModel clip =
        load_clip_text(folder_ / "text_encoder", options, on_load("text encoder CLIP"));
    std::vector<torch::Tensor> pooled;
    for (const std::string& prompt : prompts) {
      const PromptIds ids = clip_prompt_ids(clip_tokenizer_, prompt);
      pooled.push_back(clip_pooled(clip, {{ids}}).squeeze(0).to(torch::kCPU));
    }
    return pooled;
  }

  void check_that_parts_fit() const {
    const PartsFit fit(folder_);
    fit.equal("transformer's in_channels, 4 for each channel of the VAE's latents,",
              kFluxPatch * kFluxPatch * vae_.latent_channels, transformer_.in_channels);
    fit.equal("transformer's out_channels as its in_channels,", transformer_.in_channels,
              transformer_.out_channels);
    fit.equal("transformer's patch_size", 1, transformer_.patch_size);
    fit.equal("transformer's pooled_projection_dim, text_encoder's hidden_size,", clip_.hidden_size,
              transformer_.pooled_projection_dim);
    fit.equal("transformer's joint_attention_dim, text_encoder_2's d_model,", t5_.d_model,
              transformer_.joint_attention_dim);
    fit.at_least("text_encoder's vocab_size", clip_tokenizer_.id_limit(), "the tokenizer's ids",
                 clip_.vocab_size);
    fit.at_least("text_encoder_2's vocab_size", t5_tokenizer_.id_limit(), "the tokenizer's ids",
                 t5_.vocab_size);
  }

  /// Names, types and shapes of what every part's files hold.
  void check_tensors() const {
    load_clip_text(folder_ / "text_encoder", torch::kMeta);
    load_t5_encoder(folder_ / "text_encoder_2", torch::kMeta);
    source_.check(load_flux, *outline(), foreign_modules());
    load_vae(folder_ / "vae", torch::kMeta);
  }

  std::filesystem::path folder_;
  TransformerSource source_;
  BytePairTokenizer clip_tokenizer_;
  T5Tokenizer t5_tokenizer_;
  ClipTextConfig clip_;
  T5Config t5_;
  FluxConfig transformer_;
  VaeShape vae_;
};

}  // namespace

std::unique_ptr<TextToImageModel> open_flux_model(const std::filesystem::path& folder,
                                                  const std::filesystem::path& transformer_file) {
  return std::make_unique<FluxModel>(folder, transformer_file);
}

}  // namespace rtlynx
