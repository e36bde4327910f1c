// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/libtorch.h"
#include "cli/model_options.h"
#include "models/blockwise/blockwise.h"
#include "study/calibration_run.h"
#include "study/drawn_steps.h"

namespace rtlynx::cli {

/// A file of what text encoders gave, in place of them, and what is drawn of it.
struct EmbeddingOptions {
  std::string file;
  /// Steps, seed and guidance are those of the command's own options.
  DrawingRun run;
  bool guidance_given = false;  ///< --guidance, once the command line is parsed

  /// Adds --embeddings, --width, --height and --true-cfg; returns the first.
  CLI::Option* add_to(CLI::App& command);
};

/// A transformer of diffusers and what it draws, before its weights are read.
struct EmbeddedModel {
  std::filesystem::path folder;  ///< transformer/
  torch::TensorOptions tensors;
  std::unique_ptr<BlockwiseTransformer> planned;  ///< on the meta device
  SchedulerConfig scheduler;
  PromptEmbeddings embeddings;
  DrawingRun run;

  /// Reads the weights, with a progress bar.
  std::unique_ptr<BlockwiseTransformer> load() const;
};

/// Reads all but the weights, and sets the number of threads. Throws UsageError for a run that the
/// model cannot draw, Error for what is missing or does not fit.
EmbeddedModel open_embedded(const ModelOptions& model, const EmbeddingOptions& options,
                            const CalibrationRun& run);

}  // namespace rtlynx::cli
