// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/libtorch.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "models/blockwise/blockwise.h"
#include "models/text_to_image/model.h"
#include "study/calibration_run.h"
#include "study/drawn_steps.h"

namespace rtlynx::cli {

/// Prompts for a model of diffusers, as text or as what its text encoders gave, and what is drawn
/// of them.
struct EmbeddingOptions {
  std::string file;
  std::string prompts_file;
  std::optional<std::string> negative;
  /// Steps, seed and guidance are those of the command's own options.
  DrawingRun run;
  bool guidance_given = false;  ///< --guidance, once the command line is parsed

  /// Adds --embeddings, --prompts-file, --negative, --width, --height and --true-cfg. The first two
  /// go without each other and without the options `of_scenes`.
  void add_to(CLI::App& command, const std::vector<const char*>& of_scenes);

  /// Once the command line is parsed. Throws UsageError for options that go with neither.
  void take(const CLI::App& command);

  bool is_given() const { return !file.empty() || !prompts_file.empty(); }

  /// The files that are read.
  void add_to(FilePlan& files) const;
};

/// A transformer of diffusers and what it draws, before any weights are read.
struct EmbeddedModel {
  std::filesystem::path folder;  ///< transformer/
  torch::TensorOptions tensors;
  std::unique_ptr<BlockwiseTransformer> planned;  ///< on the meta device
  SchedulerConfig scheduler;
  DrawingRun run;
  PromptEmbeddings embeddings;  ///< of prompts once load() was called

  std::unique_ptr<TextToImageModel> encoders;  ///< none where embeddings were given
  std::vector<std::string> prompts;
  std::optional<std::string> negative;

  /// Encodes the prompts, if there are any, with text encoders that are freed behind it; then reads
  /// the transformer's weights, with a progress bar.
  std::unique_ptr<BlockwiseTransformer> load();
};

/// Reads all but the weights, and sets the number of threads. Throws UsageError for a run that the
/// model cannot draw, Error for what is missing or does not fit.
EmbeddedModel open_embedded(const ModelOptions& model, const EmbeddingOptions& options,
                            const CalibrationRun& run);

}  // namespace rtlynx::cli
