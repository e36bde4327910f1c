// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/byte_pair_tokenizer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/error.h"
#include "io/text.h"
#include "models/tokenizers/unicode.h"

namespace rtlynx {
namespace {

// White space as Unicode defines it, for use within brackets: engines disagree about \s.
constexpr const char* kSpace =
    R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

/// `expression` with every @ replaced by kSpace.
std::string with_space(std::string_view expression) {
  std::string result;
  for (const char c : expression) {
    if (c == '@') {
      result += kSpace;
    } else {
      result += c;
    }
  }
  return result;
}

/// Throws Error for an added token whose id is not the vocabulary's.
void check_added(const BytePairFiles& files, std::string_view where) {
  for (const AddedToken& token : files.added) {
    const auto known = files.ids.find(token.text);
    if (known != files.ids.end() && known->second != token.id) {
      fail(std::string(where) + ", added token " + in_quotes(token.text),
           "the vocabulary's id " + std::to_string(known->second), std::to_string(token.id));
    }
  }
}

std::int64_t largest_id(const BytePairFiles& files) {
  std::int64_t largest = 0;
  for (const auto& [token, id] : files.ids) largest = std::max(largest, id);
  for (const AddedToken& token : files.added) largest = std::max(largest, token.id);
  return largest;
}

std::string normalize(std::string_view text, bool fold) {
  const std::string result = nfc(text);
  return fold ? lower_case(collapse_white_space(result)) : result;
}

/// The added tokens that are searched for before the text is normalized.
std::vector<AddedToken> raw_tokens(const std::vector<AddedToken>& tokens) {
  std::vector<AddedToken> selected;
  std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(selected),
               [](const AddedToken& token) { return !token.normalized; });
  return selected;
}

/// The others, as they look in normalized text.
std::vector<AddedToken> normalized_tokens(const std::vector<AddedToken>& tokens, bool fold) {
  std::vector<AddedToken> selected;
  for (const AddedToken& token : tokens) {
    if (!token.normalized) continue;
    selected.push_back(token);
    selected.back().text = normalize(token.text, fold);
  }
  return selected;
}

}  // namespace

BytePairOptions clip_tokenizer_options() {
  return {.tokenizer_class = "CLIPTokenizer",
          .fold = true,
          // The second is GPT-2's, which only cuts what the first keeps whole: a token's text that
          // lower-casing has made.
          .patterns = {with_space(R"(<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|)"
                                  R"(\p{L}+|\p{N}|[^@\p{L}\p{N}]+)"),
                       with_space(R"('s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}+|[^@\p{L}\p{N}]+)")},
          .word_suffix = "</w>"};
}

BytePairOptions qwen2_tokenizer_options() {
  return {.tokenizer_class = "Qwen2Tokenizer",
          .patterns = {with_space(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                                  R"( ?[^@\p{L}\p{N}]+[\r\n]*|[@]*[\r\n]+|[@]+(?![^@])|[@]+)")},
          .word_suffix = ""};
}

BytePairTokenizer::BytePairTokenizer(const std::filesystem::path& folder,
                                     const BytePairOptions& options)
    : BytePairTokenizer(read_byte_pair_files(folder, options.tokenizer_class), options,
                        printable(folder.string())) {}

BytePairTokenizer::BytePairTokenizer(const BytePairFiles& files, const BytePairOptions& options,
                                     std::string_view where)
    : where_(where),
      fold_(options.fold),
      encoder_(files.ids, files.merges, options.word_suffix, where),
      added_(files.added),
      raw_splitter_(raw_tokens(files.added)),
      normalized_splitter_(normalized_tokens(files.added, options.fold)),
      id_limit_(largest_id(files) + 1) {
  check_added(files, where);
  for (const std::string& pattern : options.patterns) patterns_.emplace_back(pattern);
}

std::int64_t BytePairTokenizer::added_id(std::string_view token) const {
  for (const AddedToken& added : added_) {
    if (added.text == token) return added.id;
  }
  fail(where_, "the added token " + in_quotes(token), "none");
}

void BytePairTokenizer::encode_normalized(std::string_view text,
                                          std::vector<std::int64_t>& ids) const {
  std::vector<std::string_view> pieces = {text};
  for (const Pattern& pattern : patterns_) {
    std::vector<std::string_view> finer;
    for (const std::string_view piece : pieces) {
      const auto matches = pattern.matches(piece);
      finer.insert(finer.end(), matches.begin(), matches.end());
    }
    pieces = std::move(finer);
  }
  for (const std::string_view word : pieces) encoder_.encode(word, ids);
}

std::vector<std::int64_t> BytePairTokenizer::encode(std::string_view text) const {
  require_utf8(text);
  std::vector<std::int64_t> ids;
  const auto add_token = [&](std::int64_t id) { ids.push_back(id); };
  raw_splitter_.split(
      text,
      [&](std::string_view raw) {
        normalized_splitter_.split(
            normalize(raw, fold_), [&](std::string_view piece) { encode_normalized(piece, ids); },
            add_token);
      },
      add_token);
  return ids;
}

}  // namespace rtlynx
