// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/libtorch.h"
#include "models/text_to_image/model.h"

namespace rtlynx {

/// All that features depend on: a model's encoding(), the type and the kind of device that they are
/// computed with, the program, and the prompt.
std::string features_key(const std::string& encoding, const torch::TensorOptions& options,
                         const std::string& prompt);

/// What text encoders made of prompts, in a folder: a file for each prompt, the longest unused ones
/// removed when they get too many. Several processes may use one folder: files appear complete,
/// and one that is gone, broken, damaged or of another key is as if it had never been there. Files
/// that are not the cache's are left alone. What cannot be written is said and not kept.
class PromptCache {
 public:
  static constexpr std::uint64_t kMaxBytes = std::uint64_t{512} << 20;

  /// Makes the folder. Throws Error if it cannot be written to.
  explicit PromptCache(const std::filesystem::path& folder, std::uint64_t max_bytes = kMaxBytes);

  /// `key`: all that the features depend on, the prompt among it.
  std::optional<PromptFeatures> find(const std::string& key) const;
  void keep(const std::string& key, const PromptFeatures& features) const;

 private:
  std::filesystem::path file_of(const std::string& key) const;
  void remove_oldest() const;

  std::filesystem::path folder_;
  std::uint64_t max_bytes_;
};

}  // namespace rtlynx
