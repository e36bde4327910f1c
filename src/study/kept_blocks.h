// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "compensate/compensation_file.h"
#include "study/calibrate.h"
#include "study/drawn_steps.h"
#include "study/kept_results.h"

namespace rtlynx {

/// A calibration's finished work in a folder: the drawing, and each block's layers.
class KeptBlocks {
 public:
  /// `settings`, an object, is everything that decides the work. An empty folder keeps nothing.
  /// Throws Error when the folder belongs to other settings, naming the first difference.
  KeptBlocks(std::filesystem::path folder, const nlohmann::ordered_json& settings);

  std::optional<std::vector<DrawnStep>> drawing() const;
  void keep_drawing(const std::vector<DrawnStep>& passes);

  /// Adds a block's layers to `result`; false without them.
  bool take(const std::string& block, CalibrateResult& result) const;
  /// `solved` holds this block's layers alone.
  void keep(const std::string& block, const CalibrateResult& solved);

 private:
  std::filesystem::path file(const std::string& name) const;

  std::filesystem::path folder_;
  std::optional<KeptResults> results_;
};

}  // namespace rtlynx
