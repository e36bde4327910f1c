// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizers/added_tokens.h"
#include "models/tokenizers/byte_pair.h"
#include "models/tokenizers/pattern.h"

namespace rtlynx {

/// What tells one byte-pair tokenizer from another.
struct BytePairOptions {
  std::string_view tokenizer_class;  ///< as tokenizer_config.json names it
  bool fold = false;                 ///< runs of white space to one space, letters to lower case
  std::vector<std::string>
      patterns;                  ///< cut text into words; each cuts the pieces of the one before
  std::string_view word_suffix;  ///< ends the last symbol of a word
};

BytePairOptions clip_tokenizer_options();
BytePairOptions qwen2_tokenizer_options();

/// A byte-level byte-pair tokenizer: added tokens are cut out of the raw text, the rest is
/// normalized (NFC, then what the options say), cut into words, and encoded word by word. The ids
/// are those of transformers 5.
class BytePairTokenizer {
 public:
  /// Reads vocab.json, merges.txt and tokenizer_config.json.
  BytePairTokenizer(const std::filesystem::path& folder, const BytePairOptions& options);
  /// The same from what the files hold; `where` names them in errors.
  BytePairTokenizer(const BytePairFiles& files, const BytePairOptions& options,
                    std::string_view where);

  /// The ids of `text`, without any token around them. Throws UsageError for invalid UTF-8.
  std::vector<std::int64_t> encode(std::string_view text) const;

  /// The id of an added token, such as "<|endoftext|>"; throws Error if there is none.
  std::int64_t added_id(std::string_view token) const;

  /// One more than the largest id: the rows that an embedding table needs.
  std::int64_t id_limit() const { return id_limit_; }

 private:
  void encode_normalized(std::string_view text, std::vector<std::int64_t>& ids) const;

  std::string where_;
  bool fold_;
  std::vector<Pattern> patterns_;
  BytePairEncoder encoder_;
  std::vector<AddedToken> added_;
  AddedTokenSplitter raw_splitter_;
  AddedTokenSplitter normalized_splitter_;
  std::int64_t id_limit_ = 0;
};

}  // namespace rtlynx
