// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/qwen_image_denoiser.h"

#include <utility>

#include "models/patches.h"
#include "models/qwen_image/guidance.h"
#include "models/text_to_image/decoder_prompts.h"
#include "models/text_to_image/prompt_rows.h"

namespace rtlynx {
namespace {

QwenImageInputs qwen_image_inputs(const DenoiserInput& input) {
  const torch::Tensor& latents = input.latents;
  PromptRows text = padded(input.features, kDecoderTokens);
  return {.hidden_states = tokens_from_pixels(latents, kQwenImagePatch),
          .encoder_hidden_states = std::move(text.rows),
          .text_tokens = std::move(text.lengths),
          .timestep = rounded_time(input, latents.options()),
          .img_shapes = {{.rows = latents.size(2) / kQwenImagePatch,
                          .columns = latents.size(3) / kQwenImagePatch}}};
}

}  // namespace

std::vector<torch::Tensor*> QwenImagePassFamily::changing(QwenImageInputs& inputs) {
  return {&inputs.hidden_states, &inputs.encoder_hidden_states, &inputs.timestep};
}

bool QwenImagePassFamily::same_places(const QwenImageInputs& a, const QwenImageInputs& b) {
  return a.text_tokens == b.text_tokens && a.img_shapes == b.img_shapes;
}

torch::Tensor QwenImagePassFamily::rotation(const QwenImageFused& fused,
                                            const QwenImageInputs& inputs) {
  return fused.rotation(inputs);
}

QwenImageDenoiser::QwenImageDenoiser(QwenImageTransformer transformer)
    : pass_(std::move(transformer)) {}

torch::Tensor QwenImageDenoiser::velocity(const DenoiserInput& input) {
  const torch::Tensor velocity = pass_.run(qwen_image_inputs(input));
  return pixels_from_tokens(velocity, kQwenImagePatch, input.latents.size(2),
                            input.latents.size(3));
}

torch::Tensor QwenImageDenoiser::guide(const torch::Tensor& wanted, const torch::Tensor& unwanted,
                                       double strength) const {
  return with_norms_of(wanted, Denoiser::guide(wanted, unwanted, strength), kQwenImagePatch);
}

}  // namespace rtlynx
