// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "compensate/compensation_file.h"
#include "compensate/rivals.h"
#include "compensate/solve.h"
#include "mini/mini_pipeline.h"
#include "study/calibration_run.h"

namespace rtlynx {

/// The share of a run's batches that one of several processes draws.
struct CalibrationShard {
  int index = 1;  ///< from 1
  int count = 1;
};

/// How a model's compensation is made.
struct CalibrateOptions {
  CalibrationRun run;       ///< what is drawn to see the layers' inputs
  std::int64_t rows = 512;  ///< tokens taken, at random, of every input of a batch and step
  std::string recipe = "paper";
  TransformChoice transform;
  SolveOptions solve;
  std::vector<RivalMethod> rivals;  ///< what else to solve every layer by, for a mixed choice

  /// Of sums at a time. Inputs that do not fit are drawn for in parts, one after the other.
  std::int64_t memory = std::int64_t{32} << 30;

  std::filesystem::path statistics;  ///< safetensors; gone on with if it exists; none: not kept
  int save_interval = 8;             ///< batches between two times that it is written

  /// To draw and keep the statistics of a part of the prompts only (study/calibration_shards.h).
  std::optional<CalibrationShard> shard;
};

/// Where the drawing stands: of `passes` over the prompts, of all parts, in denoising steps.
struct CalibrateProgress {
  int pass = 1;
  int passes = 1;
  int finished = 0;
  int steps = 0;
};

/// Called after every step. Returns false to stop after the batch at work.
using CalibrateCallback = std::function<bool(const CalibrateProgress&)>;

/// One thing that a layer may do in a mixed choice, and the relative error of its output over the
/// calibration's tokens.
struct LayerOption {
  LayerCompensation layer;
  double local_error = 0;
};

/// A layer and what its compensation is expected to do.
struct CalibratedLayer {
  std::string name;
  std::string input;        ///< its group
  std::int64_t tokens = 0;  ///< behind the statistics
  std::int64_t in_features = 0;
  std::int64_t out_features = 0;
  LayerSolution solution;
  std::vector<LayerOption> rivals;  ///< as options.rivals asks for, where they can be
};

struct CalibrateResult {
  bool finished = false;  ///< else stopped early: the statistics are kept, nothing was solved
  std::vector<CalibratedLayer> layers;
  ModelCompensation compensation;
};

/// Draws the run with every layer dense, sums second moments of what the recipe's layers read, over
/// all timesteps, both guidance branches, image and text tokens, and solves each layer. A transform
/// that depends on the inputs takes a pass of its own before, over every fourth batch.
///
/// Memory: sums of options.memory bytes, or of one input where that alone is larger, beside the
/// model, whatever the number of prompts: 24 K^2 bytes for an input of K channels, 32 K^2 with a
/// transform that depends on the inputs. Batches depend only on the options, so that a run that was
/// stopped and gone on with gives the same bits. Leaves the model dense. Throws UsageError for an
/// unknown recipe or a rank that a layer cannot have, Error if options.statistics belongs to
/// another calibration.
CalibrateResult calibrate(Pipeline& pipeline, const CalibrateOptions& options,
                          const CalibrateCallback& on_step = {});

/// What layers are solved from. One for every choice of recipe, run, rows, transform and norm.
struct CalibrationSums {
  std::map<std::string, InputTransform> transforms;  ///< by input group
  GroupMoments moments;                              ///< of z and S
};

/// The first half of calibrate, for all inputs at once: options.memory is not asked. Nothing if it
/// was stopped early.
std::optional<CalibrationSums> collect_sums(Pipeline& pipeline, const CalibrateOptions& options,
                                            const CalibrateCallback& on_step = {});

/// The same for several calibrations of one run and shard: its pictures are drawn once for all, and
/// each gets the sums that it gets alone.
std::optional<std::vector<CalibrationSums>> collect_sums(Pipeline& pipeline,
                                                         std::span<const CalibrateOptions> all,
                                                         const CalibrateCallback& on_step = {});

/// For sums of the paper's layers and their inputs as they are: what rivals are solved from.
CalibrateOptions input_sums_options(const CalibrationRun& run);

/// What a calibration draws, in denoising steps of single pictures, all passes and parts together.
std::int64_t picture_steps(const CalibrateOptions& options, std::size_t parts = 1);

/// Of several calibrations of one run that are drawn for at once.
std::int64_t picture_steps(std::span<const CalibrateOptions> all);

/// The second half: solves every layer of the recipe whose input is among the sums, which are of
/// these options but for method, rank and damping.
CalibrateResult solve_layers(const Pipeline& pipeline, const CalibrationSums& sums,
                             const CalibrateOptions& options);

/// What the sums of an input of so many channels take, in bytes; of all inputs.
std::int64_t statistics_bytes(std::int64_t channels, const CalibrateOptions& options);
std::int64_t statistics_bytes(const Pipeline& pipeline, const CalibrateOptions& options);

/// The files that options.statistics stands for: itself, or one per part, -00001-of-0000N before
/// its extension.
std::vector<std::filesystem::path> statistics_files(const Pipeline& pipeline,
                                                    const CalibrateOptions& options);

/// The layer report as JSON.
nlohmann::ordered_json to_json(const CalibrateResult& result);

}  // namespace rtlynx
