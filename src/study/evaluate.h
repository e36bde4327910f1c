// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipeline/pipeline.h"

namespace rtlynx {

/// Which pictures to draw and compare.
struct EvaluateOptions {
  int prompts = 500;          ///< held-out captions
  std::uint64_t seed = 2026;  ///< of the list of captions
  int steps = 28;
  double guidance = 4.0;
  int batch = 32;
  std::vector<std::string> modes = {"dense", "naive", "norm"};
};

/// Called with the mode at work and its number of finished images.
using EvaluateCallback = std::function<void(const std::string& mode, int finished)>;

/// Draws the same captions from the same noise in every mode (dense first, if it is among them) and
/// reports, per mode, the shares that the checker finds right and, beside dense, the mean PSNR
/// (over pictures that differ) and SSIM to the dense pictures. The report is what metrics.json
/// holds.
nlohmann::ordered_json evaluate_modes(Pipeline& pipeline, const EvaluateOptions& options,
                                      const EvaluateCallback& on_image = {});

}  // namespace rtlynx
