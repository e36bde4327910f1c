// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace rtlynx {

/// Ids by token text; each id once, none negative.
using TokenIds = std::unordered_map<std::string, std::int64_t>;

/// Pairs of symbols, the one to be joined first in front.
using Merges = std::vector<std::pair<std::string, std::string>>;

/// A token that is found in the text itself, before anything else looks at it.
struct AddedToken {
  std::string text;
  std::int64_t id = 0;
  bool normalized = false;  ///< searched for after the text was normalized
};

/// The files of a tokenizer that splits into bytes and joins pairs.
struct BytePairFiles {
  TokenIds ids;
  Merges merges;
  std::vector<AddedToken> added;
};

/// These check what they read; `where` names the file in errors.
TokenIds token_ids_from_json(const nlohmann::json& vocabulary, std::string_view where);
Merges parse_merges(std::string_view text, std::string_view where);
/// `added_tokens_decoder` of a tokenizer_config.json. Throws Error also for a token that would take
/// the white space beside it, or whole words only: no supported model has one.
std::vector<AddedToken> added_tokens_from_json(const nlohmann::json& config,
                                               std::string_view where);

/// Reads vocab.json, merges.txt and tokenizer_config.json, whose tokenizer_class has to be
/// `tokenizer_class`.
BytePairFiles read_byte_pair_files(const std::filesystem::path& folder,
                                   std::string_view tokenizer_class);

/// Reads tokenizer_config.json; its tokenizer_class has to be `tokenizer_class`, with or without
/// the ending "Fast".
std::vector<AddedToken> read_added_tokens(const std::filesystem::path& folder,
                                          std::string_view tokenizer_class);

}  // namespace rtlynx
