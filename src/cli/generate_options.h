// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/model_options.h"
#include "cli/treatment.h"

namespace rtlynx::cli {

/// The arguments of `rtlynx generate`.
struct GenerateOptions {
  ModelOptions model;
  std::vector<std::string> prompts;
  std::string prompts_file;
  std::uint64_t seed = 0;
  int images = 1;
  std::optional<int> steps;
  std::optional<double> guidance;
  std::optional<std::string> negative;
  std::optional<double> true_cfg;
  std::optional<double> cfg_truncation;
  std::optional<double> cfg_normalization;
  std::string size;
  std::optional<int> batch;
  int scale = 0;
  std::optional<std::string> mode;
  std::string compensation;
  std::string beside;
  std::vector<std::string> loras;
  std::string image;
  std::optional<double> strength;
  std::string prompt_cache;
  std::string transformer;
  bool force = false;
  std::optional<int> vae_memory;
  std::string preview;
  int preview_every = 5;
  std::string preview_vae;
  bool compare = false;
  bool json = false;
  std::string output = "rtlynx.png";
};

void add_generate_options(CLI::App& command, GenerateOptions& options);

/// The file that is named, or the one that the model brings along where neither a mode nor "none"
/// is.
std::string compensation_of(const GenerateOptions& options);

/// What these options ask for.
Treatment choose_treatment(const GenerateOptions& options);

}  // namespace rtlynx::cli
