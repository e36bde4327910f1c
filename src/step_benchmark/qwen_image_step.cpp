// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/qwen_image_step.h"

namespace rtlynx::step_benchmark {

QwenImageInputs QwenImageFamily::inputs(const QwenImageConfig& config,
                                        const torch::TensorOptions& options) const {
  return {.hidden_states = torch::randn({batch, side * side, config.in_channels}, options),
          .encoder_hidden_states = torch::randn({batch, text, config.joint_attention_dim}, options),
          .text_tokens = {},
          .timestep = torch::full({batch}, 0.5, options),
          .img_shapes = {{.rows = side, .columns = side}}};
}

QwenImageInputs QwenImageFamily::in_fp32(QwenImageInputs inputs) {
  for (torch::Tensor* tensor :
       {&inputs.hidden_states, &inputs.encoder_hidden_states, &inputs.timestep}) {
    *tensor = tensor->to(torch::kFloat32);
  }
  return inputs;
}

std::unique_ptr<FamilyStep> make_qwen_image_step(const StepShape& shape,
                                                 const torch::TensorOptions& options) {
  return std::make_unique<ModelStep<QwenImageFamily>>(
      QwenImageFamily{.side = shape.side / kPixelsOfToken, .batch = shape.batch}, QwenImageConfig{},
      options);
}

}  // namespace rtlynx::step_benchmark
