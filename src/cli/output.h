// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string_view>

namespace rtlynx::cli {

/// Throws UsageError unless the folder that `path` would be written to exists: said before long
/// work, not after it. `option` names the argument.
void check_output_folder(std::string_view option, const std::filesystem::path& path);

}  // namespace rtlynx::cli
