// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "models/tokenizers/byte_pair.h"

namespace rtlynx::test {

/// Files with the 256 bytes as tokens 0 to 255 and, for a suffix, 256 to 511, then what `merges`
/// make, in their order.
inline BytePairFiles small_files(const Merges& merges, std::string_view suffix = "") {
  BytePairFiles files{.merges = merges};
  std::int64_t next = 0;
  for (const std::string_view ending : {std::string_view(), suffix}) {
    if (next > 0 && ending.empty()) break;
    for (int byte = 0; byte < 256; ++byte) {
      files.ids[byte_symbol(static_cast<unsigned char>(byte)) + std::string(ending)] = next++;
    }
  }
  for (const auto& [left, right] : merges) files.ids.emplace(left + right, next++);
  return files;
}

}  // namespace rtlynx::test
