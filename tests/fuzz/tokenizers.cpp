// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "io/text.h"
#include "models/tokenizers/byte_pair_tokenizer.h"
#include "models/tokenizers/t5_tokenizer.h"
#include "models/tokenizers/unicode.h"
#include "promise.h"
#include "targets.h"

namespace rtlynx::fuzz {
namespace {

/// What stands before the first NUL of `rest`, and `rest` behind it.
std::string_view take_part(std::string_view& rest) {
  const std::size_t end = rest.find('\0');
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return part;
}

/// Files with all that a byte-pair tokenizer has to have, and what `merges` make: whatever the
/// merges are, they fit the vocabulary.
BytePairFiles files_with(const Merges& merges, std::string_view suffix) {
  BytePairFiles files{.merges = merges};
  std::int64_t next = 0;
  const auto add = [&](const std::string& token) { next += files.ids.emplace(token, next).second; };
  for (int byte = 0; byte < 256; ++byte) {
    add(byte_symbol(static_cast<unsigned char>(byte)));
    add(byte_symbol(static_cast<unsigned char>(byte)) + std::string(suffix));
  }
  for (const auto& [left, right] : merges) {
    add(left);
    add(right);
    add(left + right);
  }
  return files;
}

/// The text that ids stand for: every symbol is one letter for one byte.
std::string text_of(const std::vector<std::int64_t>& ids, const BytePairFiles& files) {
  std::map<std::string, char, std::less<>> bytes;
  for (int byte = 0; byte < 256; ++byte) {
    bytes[byte_symbol(static_cast<unsigned char>(byte))] = static_cast<char>(byte);
  }
  std::map<std::int64_t, std::string_view> tokens;
  for (const auto& [token, id] : files.ids) tokens[id] = token;
  std::string text;
  for (const std::int64_t id : ids) {
    for (std::string_view rest = tokens.at(id); !rest.empty();) {
      const std::string_view before = rest;
      take_code_point(rest);
      text += bytes.find(before.substr(0, before.size() - rest.size()))->second;
    }
  }
  return text;
}

}  // namespace

void token_files(std::span<const std::byte> input) {
  std::string_view rest = as_text(input);
  const std::string_view vocabulary = take_part(rest);
  const std::string_view merges = take_part(rest);
  const std::string_view config = rest;
  BytePairFiles files;
  expect_error_or_success([&] {
    files.ids = token_ids_from_json(parse_json(vocabulary, "vocabulary"), "vocabulary");
    for (const auto& [token, id] : files.ids) promise(id >= 0, "ids are not negative");
  });
  expect_error_or_success([&] {
    files.merges = parse_merges(merges, "merges");
    promise(!files.merges.empty(), "there are merges");
  });
  expect_error_or_success([&] {
    files.added = added_tokens_from_json(parse_json(config, "config"), "config");
    for (const AddedToken& token : files.added) promise(!token.text.empty(), "tokens have text");
  });
  expect_error_or_success([&] { BytePairTokenizer(files, qwen2_tokenizer_options(), "files"); });
}

void byte_pair(std::span<const std::byte> input) {
  std::string_view rest = as_text(input);
  const std::string_view merges = take_part(rest);
  const std::string_view prompt = rest;
  expect_error_or_success([&] {
    const BytePairFiles files = files_with(parse_merges(merges, "merges"), "");
    const auto ids = BytePairTokenizer(files, qwen2_tokenizer_options(), "files").encode(prompt);
    promise(is_utf8(prompt), "only UTF-8 is encoded");
    promise(text_of(ids, files) == nfc(prompt), "no byte is lost");
  });
  expect_error_or_success([&] {
    const BytePairFiles files = files_with(parse_merges(merges, "merges"), "</w>");
    BytePairTokenizer(files, clip_tokenizer_options(), "files").encode(prompt);
  });
}

void t5_model(std::span<const std::byte> input) {
  expect_error_or_success([&] {
    const T5Tokenizer tokenizer(as_text(input), {}, "model");
    for (const char* prompt : {"", "a red cat", " \uff21 e\u0301\u0323 \u732b\U0001f600\n<pad>"}) {
      for (const std::int64_t id : tokenizer.encode(prompt)) {
        promise(id >= 0 && id < tokenizer.id_limit(), "ids are the model's");
      }
    }
  });
}

}  // namespace rtlynx::fuzz
