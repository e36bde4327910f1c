// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/json.h"
#include "io/safetensors.h"
#include "models/tokenizers/pattern.h"

namespace rtlynx {

/// What PEFT puts before the names of all modules in its own files.
inline constexpr std::string_view kPeftPrefix = "base_model.model.";

/// What PEFT keeps of a LoRA beside its tensors: how much each product counts.
class LoraSettings {
 public:
  /// From the metadata that diffusers writes into a file; else, of a file with PEFT's own names,
  /// from the adapter_config.json beside it; nothing where there is neither. Throws Error for
  /// settings under which a LoRA is more than a product (DoRA), or not one of these weights.
  static std::optional<LoraSettings> of(const SafetensorsFile& file);

  /// `where` names the settings in messages; their keys begin with `prefix`.
  LoraSettings(const nlohmann::json& settings, std::string_view prefix, const std::string& where);

  /// What up times down of a module, by its name in the file, is multiplied by: alpha / rank, or
  /// with rsLoRA alpha / sqrt(rank). Throws Error for another rank than the module's.
  double scale(std::string_view module, std::int64_t rank) const;

 private:
  /// A value for all modules, and others for those whose names end as a pattern says.
  struct Values {
    double common = 0;
    std::vector<std::pair<Pattern, double>> others;

    double of(std::string_view module) const;
  };

  Values read(const nlohmann::json& settings, const char* key, const char* patterns) const;

  std::string prefix_;
  std::string where_;
  bool rank_stabilized_ = false;
  Values alpha_, rank_;
};

}  // namespace rtlynx
