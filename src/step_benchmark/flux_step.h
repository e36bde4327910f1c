// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/flux/fused.h"
#include "step_benchmark/model_step.h"

namespace rtlynx::step_benchmark {

/// FLUX.1's pieces for ModelStep.
struct FluxFamily {
  using Transformer = FluxTransformer;
  using Fused = FluxFused;
  using Config = FluxConfig;
  using Inputs = FluxInputs;

  std::int64_t side = 64;  // tokens
  std::int64_t text = 512;
  std::int64_t batch = 1;

  StreamTokens tokens() const { return {.image = side * side, .text = text}; }
  std::int64_t blocks(const Config& config) const {
    return config.num_layers + config.num_single_layers;
  }
  Config checked(const Config& config) const { return config; }
  Inputs inputs(const Config& config, const torch::TensorOptions& options) const;
  static Inputs in_fp32(Inputs inputs);
  static torch::Tensor rotation(const Fused& fused, const Inputs& inputs) {
    return fused.rotation(inputs.txt_ids, inputs.img_ids);
  }
};

/// FLUX.1-dev with 512 text tokens.
std::unique_ptr<FamilyStep> make_flux_step(const StepShape& shape,
                                           const torch::TensorOptions& options);

}  // namespace rtlynx::step_benchmark
