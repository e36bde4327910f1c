// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/embedding_options.h"
#include "cli/model_options.h"
#include "study/calibrate.h"
#include "study/train_low_rank.h"

namespace rtlynx::cli {

/// What the user of `rtlynx calibrate` wrote.
struct CalibrateArguments {
  ModelOptions model;
  CalibrateOptions calibrate;
  TrainLowRankOptions train;
  EmbeddingOptions embeddings;
  std::string start;
  std::string shard;
  std::string inputs;
  std::vector<std::string> merge;
  std::string choose;
  double budget = 0.05;
  std::string cost = "auto";
  int at_once = 1;
  std::vector<std::string> mix;
  std::string method = "joint";
  std::string transform = "none";
  std::optional<bool> norm;
  std::int64_t rank = 0;
  std::int64_t memory = 32;
  std::string output = "compensation.safetensors";
  bool json = false;
};

/// Adds all options to the command, with defaults and --help's text.
void add_calibrate_options(CLI::App& command, CalibrateArguments& arguments);

}  // namespace rtlynx::cli
