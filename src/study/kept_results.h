// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace rtlynx {

/// What a long run has finished, by name, in one JSON file that the same run goes on from. It is
/// written after every addition, under its name only when complete.
class KeptResults {
 public:
  /// Takes what `path` holds, if it exists; an empty path keeps nothing. `settings`, an object, is
  /// everything that decides the results. Throws Error when the file belongs to other settings,
  /// naming the first difference, or is none of these files.
  KeptResults(std::filesystem::path path, nlohmann::ordered_json settings);

  /// Null without such a result.
  const nlohmann::ordered_json* find(const std::string& name) const;

  /// `name` must be new.
  void add(const std::string& name, nlohmann::ordered_json result);

 private:
  void read();

  std::filesystem::path path_;
  nlohmann::ordered_json settings_;
  nlohmann::ordered_json results_ = nlohmann::ordered_json::object();
};

}  // namespace rtlynx
