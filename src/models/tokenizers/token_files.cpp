// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/token_files.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <unordered_set>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "io/text.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxId = (std::int64_t{1} << 31) - 1;
constexpr std::size_t kMaxMergesBytes = std::size_t{64} << 20;

std::string named(std::string_view where, std::string_view token) {
  return std::string(where) + ", token " + in_quotes(token);
}

std::optional<std::int64_t> id_from_text(const std::string& text) {
  std::int64_t id = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, id);
  if (error != std::errc() || rest != end || id < 0 || id > kMaxId) return std::nullopt;
  return id;
}

/// The line at the front of `rest`, without its end ("\n" or "\r\n"), and `rest` past it.
std::string_view take_line(std::string_view& rest) {
  const std::size_t end = rest.find('\n');
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

AddedToken added_token_from_json(const nlohmann::json& token, std::int64_t id,
                                 std::string_view where) {
  AddedToken result{.text = json_string(token, "content", where),
                    .id = id,
                    .normalized = json_bool(token, "normalized", where, false)};
  require(!result.text.empty(), where, "a token with text", "an empty one");
  for (const char* option : {"lstrip", "rstrip", "single_word"}) {
    require(!json_bool(token, option, where, false), where, std::string(option) + " = false",
            "true, which is not supported");
  }
  return result;
}

nlohmann::json read_config(const fs::path& path, std::string_view tokenizer_class) {
  const nlohmann::json config = read_json_file(path);
  const std::string where = printable(path.string());
  const std::string kind = json_string(config, "tokenizer_class", where);
  const std::string fast = std::string(tokenizer_class) + "Fast";
  require(kind == tokenizer_class || kind == fast, where,
          "tokenizer_class " + std::string(tokenizer_class), in_quotes(kind));
  return config;
}

}  // namespace

TokenIds token_ids_from_json(const nlohmann::json& vocabulary, std::string_view where) {
  if (!vocabulary.is_object() || vocabulary.empty()) {
    fail(where, "an object of tokens and their ids",
         vocabulary.is_object() ? "an empty one" : vocabulary.type_name());
  }
  TokenIds ids;
  std::unordered_set<std::int64_t> used;
  for (const auto& [token, value] : vocabulary.items()) {
    const bool valid = value.is_number_integer() && value >= std::int64_t{0} && value <= kMaxId;
    if (!valid) fail(named(where, token), "an id from 0 to 2147483647", printable_json(value));
    const auto id = value.get<std::int64_t>();
    if (!used.insert(id).second) {
      fail(named(where, token), "an id of its own", std::to_string(id) + ", which another has");
    }
    ids.emplace(token, id);
  }
  return ids;
}

Merges parse_merges(std::string_view text, std::string_view where) {
  Merges merges;
  std::string_view rest = text;
  for (std::size_t line_number = 1; !rest.empty(); ++line_number) {
    const std::string_view line = take_line(rest);
    if (line.empty() || (line_number == 1 && line.starts_with("#version"))) continue;
    const std::size_t space = line.find(' ');
    const bool two = space != std::string_view::npos && space > 0 && space + 1 < line.size() &&
                     line.find(' ', space + 1) == std::string_view::npos;
    if (!two || !is_utf8(line)) {
      fail(std::string(where) + ", line " + std::to_string(line_number),
           "two symbols with one space between them, in UTF-8", in_quotes(line));
    }
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  require(!merges.empty(), where, "at least one merge", "none");
  return merges;
}

std::vector<AddedToken> added_tokens_from_json(const nlohmann::json& config,
                                               std::string_view where) {
  const auto found = config.find("added_tokens_decoder");
  if (found == config.end() || !found->is_object()) {
    fail(where, "an object \"added_tokens_decoder\"", "none");
  }
  std::vector<AddedToken> tokens;
  std::unordered_set<std::string> texts;
  for (const auto& [key, value] : found->items()) {
    const auto id = id_from_text(key);
    if (!id) fail(where, "added tokens by their ids", in_quotes(key));
    tokens.push_back(
        added_token_from_json(value, *id, std::string(where) + ", added token " + key));
    if (!texts.insert(tokens.back().text).second) {
      fail(named(where, tokens.back().text), "it once among the added tokens", "it twice");
    }
  }
  return tokens;
}

BytePairFiles read_byte_pair_files(const fs::path& folder, std::string_view tokenizer_class) {
  const fs::path vocabulary = folder / "vocab.json";
  const fs::path merges = folder / "merges.txt";
  return {.ids = token_ids_from_json(read_json_file(vocabulary), printable(vocabulary.string())),
          .merges = parse_merges(read_file(merges, kMaxMergesBytes), printable(merges.string())),
          .added = read_added_tokens(folder, tokenizer_class)};
}

std::vector<AddedToken> read_added_tokens(const fs::path& folder,
                                          std::string_view tokenizer_class) {
  const fs::path path = folder / "tokenizer_config.json";
  return added_tokens_from_json(read_config(path, tokenizer_class), printable(path.string()));
}

}  // namespace rtlynx
