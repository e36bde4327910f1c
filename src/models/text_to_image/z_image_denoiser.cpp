// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/z_image_denoiser.h"

#include <utility>

#include "models/text_to_image/decoder_prompts.h"
#include "models/text_to_image/prompt_rows.h"

namespace rtlynx {
namespace {

ZImageInputs z_image_inputs(const DenoiserInput& input) {
  const torch::Tensor& latents = input.latents;
  PromptRows captions = padded(input.features, kDecoderTokens);
  // In fp32 whatever the weights' type, unlike the time of FLUX.1 and Qwen-Image.
  const torch::Tensor level = torch::full({latents.size(0)}, 1000 * static_cast<float>(input.sigma),
                                          latents.options().dtype(torch::kFloat32));
  return {.hidden_states = latents.to(captions.rows.scalar_type()),
          .encoder_hidden_states = captions.rows,
          .caption_tokens = std::move(captions.lengths),
          .timestep = (1000 - level) / 1000};
}

}  // namespace

std::vector<torch::Tensor*> ZImagePassFamily::changing(ZImageInputs& inputs) {
  return {&inputs.hidden_states, &inputs.encoder_hidden_states, &inputs.timestep};
}

bool ZImagePassFamily::same_places(const ZImageInputs& a, const ZImageInputs& b) {
  return a.caption_tokens == b.caption_tokens;
}

torch::Tensor ZImagePassFamily::rotation(const ZImageFused& fused, const ZImageInputs& inputs) {
  return fused.rotation(inputs);
}

ZImageDenoiser::ZImageDenoiser(ZImageTransformer transformer) : pass_(std::move(transformer)) {}

torch::Tensor ZImageDenoiser::velocity(const DenoiserInput& input) {
  return -pass_.run(z_image_inputs(input)).to(torch::kFloat32);
}

}  // namespace rtlynx
