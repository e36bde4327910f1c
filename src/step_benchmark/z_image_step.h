// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/z_image/fused.h"
#include "step_benchmark/model_step.h"

namespace rtlynx::step_benchmark {

/// Z-Image's pieces for ModelStep.
struct ZImageFamily {
  using Transformer = ZImageTransformer;
  using Fused = ZImageFused;
  using Config = ZImageConfig;
  using Inputs = ZImageInputs;

  std::int64_t side = 64;  // tokens
  std::int64_t text = 128;
  std::int64_t batch = 1;

  StreamTokens tokens() const {
    return {.image = ZImageSequence::padded(side * side), .text = ZImageSequence::padded(text)};
  }
  std::int64_t blocks(const Config& config) const {
    return 2 * config.n_refiner_layers + config.n_layers;
  }
  Config checked(const Config& config) const { return config; }
  Inputs inputs(const Config& config, const torch::TensorOptions& options) const;
  static Inputs in_fp32(Inputs inputs);
  static torch::Tensor rotation(const Fused& fused, const Inputs& inputs) {
    return fused.rotation(inputs);
  }
};

/// Z-Image with 128 rows of a caption.
std::unique_ptr<FamilyStep> make_z_image_step(const StepShape& shape,
                                              const torch::TensorOptions& options);

}  // namespace rtlynx::step_benchmark
