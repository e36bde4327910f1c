// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "base/libtorch.h"
#include "mini/mini_pipeline.h"

namespace rtlynx::cli {

/// --help's text of --guidance.
inline constexpr const char* kGuidanceHelp =
    "Classifier-free guidance, 1 is off; of a model with guidance_embeds, the value that it reads";

/// The device that --device names: "cpu", "cuda", or "auto" for the GPU where both torch and this
/// build can use one. Throws Error if "cuda" cannot be had.
torch::Device choose_device(const std::string& name);

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

  /// Device and dtype; the dtype "auto" is bf16 on a GPU and fp32 on the CPU.
  torch::TensorOptions tensor_options() const;

  /// Sets the number of CPU threads, if --threads was given.
  void set_threads() const;

  /// Sets the number of CPU threads, then reads lynx-mini.
  Pipeline load() const;
};

}  // namespace rtlynx::cli
