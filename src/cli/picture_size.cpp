// SPDX-License-Identifier: Apache-2.0
#include "cli/picture_size.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/number.h"
#include "io/text.h"

namespace rtlynx::cli {

PictureSize parse_size(const std::string& text, std::string_view where) {
  const std::size_t cross = std::min(text.find('x'), text.size());
  const auto width = parse_whole_number<int>(std::string_view(text).substr(0, cross));
  const auto height =
      parse_whole_number<int>(std::string_view(text).substr(std::min(cross + 1, text.size())));
  if (!width || !height) {
    throw UsageError(
        fmt::format("{}: required WIDTHxHEIGHT such as 64x64, got {}", where, in_quotes(text)));
  }
  return {*width, *height};
}

}  // namespace rtlynx::cli
