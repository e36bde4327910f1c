// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "models/tokenizers/added_tokens.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace rtlynx {

/// T5's unigram tokenizer, by libsentencepiece: added tokens are cut out of the text, the rest is
/// encoded part by part. The ids are those of the original T5 (but U+0085 is white space, as in
/// transformers). transformers' own code differs from the original where a code point and the marks
/// that follow it are replaced one by one, and where two ways to cut a word score the same.
class T5Tokenizer {
 public:
  /// Reads spiece.model and tokenizer_config.json.
  explicit T5Tokenizer(const std::filesystem::path& folder);
  /// The same from the bytes of a model; `where` names it in errors.
  T5Tokenizer(std::string_view model, std::vector<AddedToken> added, std::string_view where);
  ~T5Tokenizer();
  T5Tokenizer(T5Tokenizer&&) noexcept;

  /// The ids of `text`, without the one that ends it. Throws UsageError for invalid UTF-8.
  std::vector<std::int64_t> encode(std::string_view text) const;

  std::int64_t end_id() const;
  std::int64_t padding_id() const;
  /// One more than the largest id.
  std::int64_t id_limit() const { return id_limit_; }

 private:
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  AddedTokenSplitter splitter_;
  std::int64_t id_limit_ = 0;
};

}  // namespace rtlynx
