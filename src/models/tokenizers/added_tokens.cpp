// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/added_tokens.h"

#include <algorithm>
#include <utility>

namespace rtlynx {

AddedTokenSplitter::AddedTokenSplitter(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
    return a.text.size() != b.text.size() ? a.text.size() > b.text.size() : a.text < b.text;
  });
}

const AddedToken* AddedTokenSplitter::token_at(std::string_view rest) const {
  for (const AddedToken& token : tokens_) {
    if (rest.starts_with(token.text)) return &token;
  }
  return nullptr;
}

void AddedTokenSplitter::split(std::string_view text,
                               const std::function<void(std::string_view)>& on_text,
                               const std::function<void(std::int64_t)>& on_token) const {
  std::size_t text_begin = 0;
  std::size_t at = 0;
  while (at < text.size()) {
    const AddedToken* token = token_at(text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    if (at > text_begin) on_text(text.substr(text_begin, at - text_begin));
    on_token(token->id);
    at += token->text.size();
    text_begin = at;
  }
  if (text_begin < text.size()) on_text(text.substr(text_begin));
}

}  // namespace rtlynx
