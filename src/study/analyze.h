// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "study/calibration_run.h"
#include "study/drawn_steps.h"

namespace rtlynx {

/// What a model draws to be looked at.
struct AnalyzeOptions {
  CalibrationRun run{.prompts = 8, .steps = 28};
  std::int64_t rows =
      256;  ///< tokens of each input and step, evenly spaced, that errors are taken of
};

/// The share of the energy that the 2 largest of 4 independent normal values hold: what 2:4 keeps
/// of something without structure.
inline constexpr double kGaussianKeptEnergy = 0.867;

/// Figure 2 of the RT-Lynx paper for any model: how far weights and activations lend themselves to
/// 2:4, layer by layer of the recipe and step by step. The report is one object:
///
///   inputs: per input group, `distribution` of its tokens, effective_rank, participation_ratio;
///   layers: per Linear, its input's name, `distribution` of its weight, and `errors`: for
///     weight_magnitude, weight_wanda, activation_naive and activation_norm the relative error of
///     the layer's output (without bias), `total` and `by_step`;
///   errors_by_step: for the same four, the root mean square over layers of each step's errors.
///
/// A distribution is that of values relative to the root mean square of their token (of their row,
/// for a weight): kurtosis (mean fourth power, 3 for a Gaussian), near_zero (share below 0.1, 0.080
/// for a Gaussian), kept_energy (mean over tokens of what the 2 largest of every 4 keep) and
/// `density` over the bins whose `edges` the report gives. Wanda's norms are those of the same run.
/// Leaves the model dense.
nlohmann::ordered_json analyze(Pipeline& pipeline, const AnalyzeOptions& options,
                               const StepCallback& on_step = {});

/// The same of FLUX.1, Qwen-Image or Z-Image, which draws a picture of each prompt's embeddings.
/// The second moments of all inputs are held at once: 8 K^2 bytes for one of K channels.
nlohmann::ordered_json analyze(BlockwiseTransformer& model, const PromptEmbeddings& embeddings,
                               const SchedulerConfig& scheduler, const DrawingRun& run,
                               std::int64_t rows, const StepCallback& on_step = {});

}  // namespace rtlynx
