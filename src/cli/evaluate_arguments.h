// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/model_options.h"
#include "study/evaluate.h"

namespace rtlynx::cli {

/// --methods' name for every method that runs here.
inline constexpr const char* kAllMethods = "all";

/// What `rtlynx evaluate` is asked for.
struct EvaluateArguments {
  ModelOptions model;
  EvaluateOptions evaluate;
  // What is not given is lynx-mini's default above, or the model's own.
  std::optional<std::uint64_t> seed;
  std::optional<int> steps;
  std::optional<double> guidance;
  std::optional<int> batch;
  // With a model of diffusers:
  std::string prompts_file;
  std::string size;
  std::optional<std::string> negative;
  std::optional<double> true_cfg;
  bool force = false;
  std::string output;
  bool json = false;

  void add_to(CLI::App& command);

  /// Throws UsageError for an option that this kind of model does not have.
  void check_given(const CLI::App& command, bool is_mini) const;

  bool wants_all_methods() const;
};

}  // namespace rtlynx::cli
