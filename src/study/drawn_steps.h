// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/libtorch.h"
#include "models/blockwise/blockwise.h"
#include "pipeline/scheduler.h"
#include "study/prompt_embeddings.h"

namespace rtlynx {

/// The pictures that a transformer draws of embeddings, one of each prompt.
struct DrawingRun {
  int steps = 28;
  double guidance = 3.5;  ///< for a transformer that reads it
  double true_cfg = 1;    ///< classifier-free guidance; above 1 it needs a negative prompt
  std::int64_t height = 1024, width = 1024;  ///< pixels
  std::uint64_t seed = 7;                    ///< of the first picture's noise; then the next ones

  bool guided() const { return true_cfg > 1; }
};

/// One pass of the transformer.
struct DrawnStep {
  static constexpr std::int64_t kNegative = -1;

  torch::Tensor latents;  // [1, C, h, w] fp32, on the host
  double sigma = 1;
  std::int64_t prompt = 0;  ///< or kNegative
};

/// The pass's input, its latents still on the host.
DenoiserInput input_of(const DrawnStep& step, const PromptEmbeddings& embeddings,
                       const DrawingRun& run);

/// Throws UsageError for a run that the model cannot draw, or that the embeddings do not suffice
/// for.
void check_run(const BlockwiseTransformer& model, const PromptEmbeddings& embeddings,
               const DrawingRun& run);

/// How many passes a run has.
std::int64_t passes_of(const PromptEmbeddings& embeddings, const DrawingRun& run);

/// Draws, layers as they are, and returns all passes in their order. `on_pass` gets the number of
/// finished ones and returns false to stop, which makes the result empty.
std::vector<DrawnStep> draw_steps(BlockwiseTransformer& model, const PromptEmbeddings& embeddings,
                                  const SchedulerConfig& scheduler, const DrawingRun& run,
                                  const std::function<bool(std::int64_t finished)>& on_pass);

}  // namespace rtlynx
