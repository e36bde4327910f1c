// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace rtlynx::cli {

/// Pixels.
struct PictureSize {
  int width = 0;
  int height = 0;

  bool operator==(const PictureSize&) const = default;
};

/// "WIDTHxHEIGHT". Throws UsageError, beginning with `where`, for other texts.
PictureSize parse_size(const std::string& text, std::string_view where);

}  // namespace rtlynx::cli
