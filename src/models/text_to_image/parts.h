// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "io/json.h"
#include "io/safetensors.h"
#include "io/text.h"

namespace rtlynx {

inline constexpr std::string_view kTextEncoderStem = "model";
inline constexpr std::string_view kTransformerStem = "diffusion_pytorch_model";

/// The configuration in `folder`, once the files with its weights are seen to be whole.
template <typename Config>
Config read_part(const std::filesystem::path& folder, std::string_view stem,
                 Config (*read)(const nlohmann::json&, const std::string&)) {
  const std::filesystem::path path = folder / "config.json";
  const Config config = read(read_json_file(path), printable(path.string()));
  SafetensorsModel::open(folder, stem);
  return config;
}

/// Throws Error, in the name of a model's folder, for parts that do not fit together.
class PartsFit {
 public:
  explicit PartsFit(const std::filesystem::path& folder) : where_(printable(folder.string())) {}

  /// `what`: the values' names, the one that is wrong first.
  void equal(const char* what, std::int64_t required, std::int64_t arrived) const;

  /// `reason` for the limit.
  void at_least(const char* what, std::int64_t required, const char* reason,
                std::int64_t arrived) const;

 private:
  std::string where_;
};

}  // namespace rtlynx
