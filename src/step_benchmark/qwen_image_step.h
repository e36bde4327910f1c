// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "models/qwen_image/fused.h"
#include "step_benchmark/model_step.h"

namespace rtlynx::step_benchmark {

/// Qwen-Image's pieces for ModelStep.
struct QwenImageFamily {
  using Transformer = QwenImageTransformer;
  using Fused = QwenImageFused;
  using Config = QwenImageConfig;
  using Inputs = QwenImageInputs;

  /// All 60 in fp32, beside bf16 and what a variant adds, would not fit into one GPU.
  static constexpr std::int64_t kCheckedBlocks = 20;

  std::int64_t side = 83;  // tokens
  std::int64_t text = 64;
  std::int64_t batch = 1;

  StreamTokens tokens() const { return {.image = side * side, .text = text}; }
  std::int64_t blocks(const Config& config) const { return config.num_layers; }
  Config checked(Config config) const {
    config.num_layers = std::min(config.num_layers, kCheckedBlocks);
    return config;
  }
  Inputs inputs(const Config& config, const torch::TensorOptions& options) const;
  static Inputs in_fp32(Inputs inputs);
  static torch::Tensor rotation(const Fused& fused, const Inputs& inputs) {
    return fused.rotation(inputs);
  }
};

/// Qwen-Image with a prompt of 64 tokens.
std::unique_ptr<FamilyStep> make_qwen_image_step(const StepShape& shape,
                                                 const torch::TensorOptions& options);

}  // namespace rtlynx::step_benchmark
