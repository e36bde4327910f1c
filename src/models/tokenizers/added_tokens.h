// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "models/tokenizers/token_files.h"

namespace rtlynx {

/// Finds added tokens in text: the leftmost first, of two that start together the longer one.
class AddedTokenSplitter {
 public:
  explicit AddedTokenSplitter(std::vector<AddedToken> tokens);

  /// Calls `on_text` for what lies between the tokens (never empty) and `on_token` with each
  /// token's id, from left to right.
  void split(std::string_view text, const std::function<void(std::string_view)>& on_text,
             const std::function<void(std::int64_t)>& on_token) const;

 private:
  const AddedToken* token_at(std::string_view rest) const;

  std::vector<AddedToken> tokens_;  // longest first
};

}  // namespace rtlynx
