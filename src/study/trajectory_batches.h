// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "study/calibration_run.h"
#include "study/velocity_error.h"

namespace rtlynx {

/// What a model read at some steps of its own sampling, and what it said.
struct VelocityBatch {
  FluxInputs inputs;       // of B passes: with guidance, half of them without caption on average
  torch::Tensor velocity;  // [B, I, C] fp32
};

/// Batches for training on what the dense model draws itself, as the RT-Lynx paper distils: the
/// run's pictures are drawn, every step of every picture and guidance branch is an item, and steps
/// of training take items at random until about as many were taken as there are. Then the next
/// pictures, of other captions and noise, take their place.
///
/// Memory: one drawing, 8 I C bytes an item (I tokens of C channels, latents and velocity) and the
/// texts, run.prompts * run.steps items, twice that with guidance.
class TrajectoryBatches {
 public:
  /// Batches of `size` items. Throws UsageError for a run without prompts.
  TrajectoryBatches(const CalibrationRun& run, std::int64_t size);

  /// The batch of a step of training; depends on run, size, step and the model alone. Now and then
  /// the pipeline, whose layers have to be dense, draws for it.
  VelocityBatch at(Pipeline& pipeline, std::int64_t step);

 private:
  void draw(Pipeline& pipeline, std::int64_t round);

  CalibrationRun run_;
  std::int64_t size_;
  std::int64_t steps_per_round_;
  std::int64_t round_ = -1;
  DenseTrajectory drawn_;
};

}  // namespace rtlynx
