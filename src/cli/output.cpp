// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <string>

#include "base/error.h"

namespace rtlynx::cli {

void check_output_folder(std::string_view option, const std::filesystem::path& path) {
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  if (!std::filesystem::is_directory(folder)) {
    throw UsageError(std::string(option) + ": required an existing folder, got " + folder.string());
  }
}

}  // namespace rtlynx::cli
