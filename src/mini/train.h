// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

#include "mini/adamw.h"
#include "mini/lynx_mini.h"

namespace rtlynx {

/// How lynx-mini is trained: flow matching on drawn scenes.
struct TrainOptions {
  LynxMiniShape shape;
  std::uint64_t seed = 0;
  std::int64_t steps = 12000;    ///< of the whole run; the learning rate's course depends on it
  std::int64_t batch = 384;      ///< scenes per step
  double learning_rate = 4e-4;   ///< peak
  std::int64_t warm_up = 500;    ///< steps to the peak
  double decay_share = 0.4;      ///< last part of the run, over which the rate falls to zero
  double caption_dropout = 0.1;  ///< share of scenes trained without caption, for guidance
  double time_spread = 1.2;      ///< t = sigmoid(spread * N(0, 1))
  AdamWOptions adamw;
  torch::Device device = torch::kCPU;

  std::filesystem::path checkpoint;        ///< safetensors; resumed from if it exists
  std::int64_t checkpoint_interval = 500;  ///< steps

  /// Called with the model before the first step; throws what is to stop the training, such as that
  /// the model could not be saved.
  std::function<void(Pipeline&)> before;
};

/// Where a run stands; passed to the callback after every step.
struct TrainProgress {
  std::int64_t step = 0;  ///< finished
  std::int64_t steps = 0;
  double learning_rate = 0;
  /// Mean squared velocity error over the last steps; none before the first reading. It is read
  /// only now and then, since reading it waits for the device.
  std::optional<double> loss;
};

/// Returns false to stop early.
using TrainCallback = std::function<bool(const TrainProgress&)>;

struct TrainResult {
  Pipeline pipeline;  ///< with averaged weights, on the training device
  std::int64_t finished_steps = 0;
  std::optional<double> loss;  ///< of the last steps; none if there was nothing left to train
};

/// Trains, or goes on with the run in options.checkpoint. Batches depend only on seed and step, so
/// that a resumed run sees what an uninterrupted one would have seen. On an early stop the
/// checkpoint is written first. Throws Error if the checkpoint belongs to other options, and,
/// naming step and tensor, once loss or weights are not finite: such a state is never kept.
TrainResult train_lynx_mini(const TrainOptions& options, const TrainCallback& on_step = {});

/// Throws UsageError for a rate that nothing can be trained with.
void check_learning_rate(double rate);

/// Learning rate of step `step` (from 0): linear warm-up, plateau, cosine to zero.
double learning_rate_at(const TrainOptions& options, std::int64_t step);

}  // namespace rtlynx
