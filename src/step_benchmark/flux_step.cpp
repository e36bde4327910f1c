// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/flux_step.h"

namespace rtlynx::step_benchmark {
namespace {

/// The model reads 1000 times it in bf16. 3500, of the usual 3.5, is 3504 there: that alone would
/// take a step further from fp32 than all other rounding, and hide what the comparison is for.
constexpr double kGuidance = 4;

}  // namespace

FluxInputs FluxFamily::inputs(const FluxConfig& config, const torch::TensorOptions& options) const {
  return {.hidden_states = torch::randn({batch, side * side, config.in_channels}, options),
          .encoder_hidden_states = torch::randn({batch, text, config.joint_attention_dim}, options),
          .pooled_projections = torch::randn({batch, config.pooled_projection_dim}, options),
          .timestep = torch::full({batch}, 0.5, options),
          .guidance =
              config.guidance_embeds ? torch::full({batch}, kGuidance, options) : torch::Tensor(),
          .img_ids = grid_positions(side).to(options.device()),
          .txt_ids = torch::zeros({text, 3}).to(options.device())};
}

FluxInputs FluxFamily::in_fp32(FluxInputs inputs) {
  for (torch::Tensor* tensor : {&inputs.hidden_states, &inputs.encoder_hidden_states,
                                &inputs.pooled_projections, &inputs.timestep, &inputs.guidance}) {
    if (tensor->defined()) *tensor = tensor->to(torch::kFloat32);
  }
  return inputs;
}

std::unique_ptr<FamilyStep> make_flux_step(const StepShape& shape,
                                           const torch::TensorOptions& options) {
  return std::make_unique<ModelStep<FluxFamily>>(
      FluxFamily{.side = shape.side / kPixelsOfToken, .batch = shape.batch},
      FluxConfig{.guidance_embeds = true}, options);
}

}  // namespace rtlynx::step_benchmark
