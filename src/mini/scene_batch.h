// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/libtorch.h"
#include "mini/mini_pipeline.h"
#include "mini/scenes/vocabulary.h"

namespace rtlynx {

/// How scenes of the training split are drawn for a step of training.
struct SceneBatchOptions {
  std::uint64_t seed = 0;
  std::int64_t batch = 384;
  double caption_dropout = 0.1;  ///< share of scenes without caption
  double time_spread = 1.2;      ///< t = sigmoid(spread * N(0, 1))
  bool leaves = false;           ///< dead leaves behind the items
};

/// Scenes of one step, on the CPU.
struct SceneBatch {
  torch::Tensor bytes;  // [B, side, side, 3] uint8
  torch::Tensor ids;    // [B, L] int64, zeros where the caption is dropped
  torch::Tensor noise;  // [B, 3, side, side] fp32
  torch::Tensor time;   // [B] fp32 in (0, 1)
};

/// Depends on the options and the step alone. Thread-safe.
SceneBatch draw_scene_batch(const SceneBatchOptions& options, const Vocabulary& vocabulary,
                            std::int64_t step);

/// Flow matching (arXiv 2210.02747) on a batch: x_t = (1 - t) x + t noise.
struct FlowMatchingSample {
  FluxInputs inputs;       // of the transformer, at x_t
  torch::Tensor velocity;  // [B, I, C] fp32: noise - x
};

/// `guidance` is what a model with guidance_embeds reads.
FlowMatchingSample flow_matching_sample(Pipeline& pipeline, const SceneBatch& batch,
                                        torch::Device device, double guidance = 1.0);

}  // namespace rtlynx
