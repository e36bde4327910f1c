// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "models/flux/fused.h"
#include "step/variants.h"

namespace rtlynx::benchmark {

/// FLUX.1-dev at full size with random weights, made on the device: 1024 x 1024 pixels, 512 text
/// tokens, batch 1, bf16.
class FluxStep {
 public:
  explicit FluxStep(std::uint64_t seed);

  const FluxConfig& config() const { return config_; }
  static StepTokens tokens() { return {.image = 4096, .text = 512}; }
  FluxTransformer& model() { return model_; }
  const FluxInputs& inputs() const { return inputs_; }
  const std::vector<LayerGroup>& groups() const { return groups_; }

  /// How far the fused path and the plain one lie from the plain one in fp32, relative to it, with
  /// the layers as they are set now.
  struct Distances {
    double fused = 0.0;
    double plain = 0.0;
  };
  Distances distances() const;

 private:
  FluxConfig config_;
  FluxTransformer model_{nullptr};
  FluxInputs inputs_;
  std::vector<LayerGroup> groups_;
};

}  // namespace rtlynx::benchmark
