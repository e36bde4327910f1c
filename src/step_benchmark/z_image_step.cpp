// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/z_image_step.h"

namespace rtlynx::step_benchmark {

ZImageInputs ZImageFamily::inputs(const ZImageConfig& config,
                                  const torch::TensorOptions& options) const {
  const std::int64_t latents = config.patch_size * side;
  return {.hidden_states = torch::randn({batch, config.in_channels, latents, latents}, options),
          .encoder_hidden_states = torch::randn({batch, text, config.cap_feat_dim}, options),
          .caption_tokens = {},
          .timestep = torch::full({batch}, 0.5, options.dtype(torch::kFloat32))};
}

ZImageInputs ZImageFamily::in_fp32(ZImageInputs inputs) {
  inputs.hidden_states = inputs.hidden_states.to(torch::kFloat32);
  inputs.encoder_hidden_states = inputs.encoder_hidden_states.to(torch::kFloat32);
  return inputs;
}

std::unique_ptr<FamilyStep> make_z_image_step(const StepShape& shape,
                                              const torch::TensorOptions& options) {
  return std::make_unique<ModelStep<ZImageFamily>>(
      ZImageFamily{.side = shape.side / kPixelsOfToken, .batch = shape.batch}, ZImageConfig{},
      options);
}

}  // namespace rtlynx::step_benchmark
