// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "models/tokenizers/token_files.h"

namespace rtlynx {

/// Byte-pair encoding of one word: its bytes are symbols, and the pair that stands first in the
/// list of merges is joined until no pair of neighbours is in the list (arXiv 1508.07909).
class BytePairEncoder {
 public:
  /// `suffix` ends the last symbol of a word. Throws Error, naming `where`, for a vocabulary that
  /// lacks a byte's symbol or a merge's parts or result.
  BytePairEncoder(const TokenIds& ids, const Merges& merges, std::string_view suffix,
                  std::string_view where);

  /// Appends the ids of `word`, any bytes.
  void encode(std::string_view word, std::vector<std::int64_t>& ids) const;

 private:
  struct Join {
    std::size_t rank = 0;
    std::int64_t result = 0;
  };
  const Join* join_of(std::int64_t left, std::int64_t right) const;

  std::array<std::int64_t, 256> inner_{};  // ids of a byte within a word
  std::array<std::int64_t, 256> last_{};   // and at its end
  std::unordered_map<std::uint64_t, Join> joins_;
};

/// The letter that stands for a byte in vocab.json and merges.txt, in UTF-8: itself where it
/// prints, else a letter from U+0100 on.
std::string byte_symbol(unsigned char byte);

}  // namespace rtlynx
