// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace rtlynx {

/// What a long run has finished, by name, in one JSON file that the same run goes on from. It is
/// written after every addition, under its name only when complete. Several processes may share the
/// file: each adds to what the others wrote.
class KeptResults {
 public:
  enum class Begin {
    go_on,  ///< from what the file holds
    anew,   ///< without it: the first addition replaces the file
  };

  /// Takes what `path` holds, if it exists; an empty path keeps nothing. `settings`, an object, is
  /// everything that decides the results. Throws Error when the file belongs to other settings,
  /// naming the first difference, or is none of these files; to begin anew UsageError for the
  /// latter: only a file of results is replaced.
  KeptResults(std::filesystem::path path, nlohmann::ordered_json settings,
              Begin begin = Begin::go_on);

  /// Null without such a result.
  const nlohmann::ordered_json* find(const std::string& name) const;

  /// `name` must be new. If another process was faster, its result stays.
  void add(const std::string& name, nlohmann::ordered_json result);

  /// Takes what other processes added since.
  void refresh();

 private:
  void merge();

  std::filesystem::path path_;
  nlohmann::ordered_json settings_;
  bool replaces_;
  nlohmann::ordered_json results_ = nlohmann::ordered_json::object();
};

}  // namespace rtlynx
