// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/flux_denoiser.h"

#include <utility>

#include "models/patches.h"
#include "models/text_to_image/prompt_rows.h"

namespace rtlynx {

std::vector<torch::Tensor*> FluxPassFamily::changing(FluxInputs& inputs) {
  std::vector<torch::Tensor*> tensors = {&inputs.hidden_states, &inputs.encoder_hidden_states,
                                         &inputs.pooled_projections, &inputs.timestep};
  if (inputs.guidance.defined()) tensors.push_back(&inputs.guidance);
  return tensors;
}

// Text positions are all zero.
bool FluxPassFamily::same_places(const FluxInputs& a, const FluxInputs& b) {
  return torch::equal(a.img_ids, b.img_ids);
}

torch::Tensor FluxPassFamily::rotation(const FluxFused& fused, const FluxInputs& inputs) {
  return fused.rotation(inputs.txt_ids, inputs.img_ids);
}

FluxDenoiser::FluxDenoiser(FluxTransformer transformer) : pass_(std::move(transformer)) {}

torch::Tensor FluxDenoiser::velocity(const DenoiserInput& input) {
  const torch::Tensor velocity = pass_.run(inputs_of(input));
  return pixels_from_tokens(velocity, kFluxPatch, input.latents.size(2), input.latents.size(3));
}

FluxInputs FluxDenoiser::inputs_of(const DenoiserInput& input) const {
  const torch::Tensor& latents = input.latents;
  const std::int64_t batch = latents.size(0), height = latents.size(2), width = latents.size(3);
  const torch::Tensor text = stacked(input.features, kFluxTokens);  // [B, L, d]
  const auto fp32 = latents.options().dtype(torch::kFloat32);
  const torch::Tensor img_ids =
      image_position_ids(height / kFluxPatch, width / kFluxPatch).to(fp32);
  return {.hidden_states = tokens_from_pixels(latents, kFluxPatch),
          .encoder_hidden_states = text,
          .pooled_projections = stacked(input.features, kFluxPooled),
          .timestep = rounded_time(input, latents.options()),
          .guidance = pass_.model()->config().guidance_embeds
                          ? torch::full({batch}, input.guidance, fp32)
                          : torch::Tensor(),
          .img_ids = img_ids,
          .txt_ids = torch::zeros({text.size(1), img_ids.size(1)}, fp32)};
}

}  // namespace rtlynx
