// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "models/flux/fused.h"
#include "step_benchmark/results.h"

namespace rtlynx::step_benchmark {

/// FLUX.1-dev at full size with random weights, made on the device: 1024 x 1024 pixels, 512 text
/// tokens, batch 1, bf16.
class FluxStep {
 public:
  explicit FluxStep(std::uint64_t seed);

  const FluxConfig& config() const { return config_; }
  static StreamTokens tokens() { return {.image = 4096, .text = 512}; }
  FluxTransformer& model() { return model_; }
  const FluxInputs& inputs() const { return inputs_; }
  const std::vector<LayerGroup>& groups() const { return groups_; }

  /// With the layers as they are set now.
  Distances distances() const;

 private:
  FluxConfig config_;
  FluxTransformer model_{nullptr};
  FluxInputs inputs_;
  std::vector<LayerGroup> groups_;
};

}  // namespace rtlynx::step_benchmark
