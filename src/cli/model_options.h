// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "pipeline/pipeline.h"

namespace rtlynx::cli {

/// The options that every command with a model has.
struct ModelOptions {
  std::string model;
  std::string device = "auto";
  std::string dtype = "auto";
  int threads = 0;

  void add_to(CLI::App& command);

  /// Where the model lies: --model, else the RTLYNX_MODEL variable, else the installed or source
  /// copy of lynx-mini. Throws Error if none is there.
  std::filesystem::path model_folder() const;

  /// "auto" is the GPU if torch sees one, in bf16, else the CPU, in fp32.
  torch::TensorOptions tensor_options() const;

  Pipeline load() const;
};

}  // namespace rtlynx::cli
