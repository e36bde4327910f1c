// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "compensate/compensation_file.h"
#include "mini/mini_pipeline.h"
#include "study/calibration_run.h"

namespace rtlynx {

/// What the low ranks are trained for.
enum class LowRankObjective {
  layerwise,  ///< each layer's output on the dense model's inputs, as the RT-Lynx paper does
  velocity,   ///< the whole model's velocity, distilled from the dense model
};

/// What the model reads in training; half of it without caption, as guidance has it.
enum class LowRankInputs {
  scenes,        ///< noisy scenes of the training split
  trajectories,  ///< what the dense model's own sampling goes through, as the RT-Lynx paper does
};

/// How the low ranks of a compensation are trained, by AdamW. Base weights stay as they are.
struct TrainLowRankOptions {
  LowRankObjective objective = LowRankObjective::layerwise;
  LowRankInputs inputs = LowRankInputs::scenes;
  CalibrationRun run;  ///< of `trajectories`: the pictures that are held at a time
  std::uint64_t seed = 0;
  std::int64_t steps = 2000;
  std::int64_t batch = 8;   ///< scenes, or steps of a trajectory, per step
  std::int64_t rows = 256;  ///< of `layerwise`: tokens of every input per step, at random
  double learning_rate = 1e-3;
  std::int64_t warm_up = 100;

  std::filesystem::path checkpoint;  ///< safetensors; resumed from if it exists
  std::int64_t checkpoint_interval = 100;
};

struct TrainLowRankProgress {
  std::int64_t step = 0;  ///< finished
  std::int64_t steps = 0;
  double loss = 0;  ///< of this step: squared error relative to the dense output's square
};

/// Returns false to stop early.
using TrainLowRankCallback = std::function<bool(const TrainLowRankProgress&)>;

struct TrainLowRankResult {
  bool finished = false;           ///< else stopped early, the checkpoint written first
  std::optional<double> loss;      ///< of the last step; none if there was nothing left to train
  ModelCompensation compensation;  ///< with averaged low ranks
};

/// The paper's start: the recipe's layers with norm compensation and a low rank whose L_up is zero.
ModelCompensation start_low_rank(const Pipeline& pipeline, const std::string& recipe,
                                 std::int64_t rank, std::uint64_t seed);

/// Trains the low ranks of `start`, or goes on with the run in options.checkpoint. Batches depend
/// only on the options and the step, so that a resumed run sees what an uninterrupted one would
/// have seen. The loss of a layer, or of the velocity, is its squared error over the dense output's
/// square.
///
/// Leaves `start`, trained, applied to the pipeline. Throws Error for a pipeline that is not fp32,
/// a start without low rank or for other weights, and a checkpoint of another run.
TrainLowRankResult train_low_rank(Pipeline& pipeline, const ModelCompensation& start,
                                  const TrainLowRankOptions& options,
                                  const TrainLowRankCallback& on_step = {});

}  // namespace rtlynx
