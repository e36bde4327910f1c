// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/vocabulary.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr int kIgnored = -1;
constexpr std::size_t kSuggestions = 3;

struct Piece {
  std::string text;
  std::size_t character;  // its first one's number in the prompt, from 1
};

// ASCII by hand: what is a letter must not depend on the process's locale. Bytes of other
// characters count as letters, so that an error message shows them whole.
bool is_word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// The first byte of a character in UTF-8; the others of it begin with the bits 10.
bool begins_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

std::vector<Piece> split(std::string_view prompt) {
  std::vector<Piece> pieces;
  bool in_word = false;
  std::size_t character = 0;
  for (const char byte : prompt) {
    const char c = lower(byte);
    if (begins_character(c)) ++character;
    if (is_word_character(c)) {
      if (!in_word) pieces.push_back({"", character});
      pieces.back().text += c;
      in_word = true;
      continue;
    }
    in_word = false;
    if (c == ',' || c == ';') pieces.push_back({",", character});
  }
  return pieces;
}

[[noreturn]] void refuse_word(const Piece& piece, const std::string& suggestions) {
  constexpr std::size_t kShown = 60;
  std::string shown = piece.text;
  if (shown.size() > kShown) {
    std::size_t end = kShown;
    while (end > 0 && !begins_character(shown[end])) --end;
    shown = shown.substr(0, end) + "...";
  }
  throw UsageError("prompt: required words that the model knows, got \"" + shown +
                   "\" at character " + std::to_string(piece.character) + suggestions);
}

int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 0; i < a.size(); ++i) {
    int diagonal = std::exchange(row[0], static_cast<int>(i) + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const int substitution = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substitution, diagonal + 1, row[j] + 1});
    }
  }
  return row[b.size()];
}

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += separator;
    text += word;
  }
  return text;
}

}  // namespace

Vocabulary::Vocabulary(std::vector<std::string> words, std::vector<std::string> ignored,
                       std::map<std::string, std::string> aliases)
    : words_(std::move(words)), ignored_(std::move(ignored)), aliases_(std::move(aliases)) {
  if (words_.empty()) throw UsageError("vocabulary: required a padding token, got no words");
  const auto add = [this](const std::string& word, int index) {
    if (word.empty()) throw UsageError("vocabulary: required words of letters, got an empty one");
    if (!index_.emplace(word, index).second)
      throw UsageError("vocabulary: required distinct words, got \"" + word + "\" twice");
  };
  for (std::size_t i = 0; i < words_.size(); ++i) add(words_[i], static_cast<int>(i));
  for (const std::string& word : ignored_) add(word, kIgnored);
  for (const auto& [alias, word] : aliases_) {
    const auto target = std::find(words_.begin() + 1, words_.end(), word);
    if (target == words_.end())
      throw UsageError("vocabulary: required aliases of known words, got \"" + alias + "\" for \"" +
                       word + "\"");
    add(alias, static_cast<int>(target - words_.begin()));
  }
  index_.erase(words_[kPadding]);
}

std::string Vocabulary::suggest(std::string_view word) const {
  // What is no word has no neighbours, and comparing it would take long.
  constexpr std::size_t kLongestWord = 60;
  const std::vector<std::string> words =
      word.size() > kLongestWord ? std::vector<std::string>() : closest(word);
  return words.empty() ? "" : "; the closest known words are " + join(words, ", ");
}

std::vector<std::string> Vocabulary::closest(std::string_view word) const {
  std::vector<std::pair<int, std::string>> ranked;
  for (const auto& [known, index] : index_) {
    if (index == kIgnored || !is_word_character(known.front())) continue;
    ranked.emplace_back(edit_distance(word, known), known);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> nearest;
  for (std::size_t i = 0; i < std::min(kSuggestions, ranked.size()); ++i)
    nearest.push_back(ranked[i].second);
  return nearest;
}

std::vector<int> Vocabulary::encode(std::string_view prompt, int max_tokens) const {
  const auto comma = index_.find(",");
  const int separator = comma == index_.end() ? kPadding : comma->second;
  std::vector<int> tokens;
  for (const Piece& piece : split(prompt)) {
    const auto found = index_.find(piece.text);
    if (found == index_.end()) {
      if (piece.text == ",") continue;
      refuse_word(piece, suggest(piece.text));
    }
    if (found->second == kIgnored) continue;
    const bool nothing_to_separate =
        found->second == separator && (tokens.empty() || tokens.back() == separator);
    if (!nothing_to_separate) tokens.push_back(found->second);
  }
  if (!tokens.empty() && tokens.back() == separator) tokens.pop_back();
  if (static_cast<int>(tokens.size()) > max_tokens)
    throw UsageError("prompt: required at most " + std::to_string(max_tokens) + " tokens, got " +
                     std::to_string(tokens.size()) + "; leave out an item or an attribute");
  return tokens;
}

std::string Vocabulary::decode(const std::vector<int>& tokens) const {
  std::vector<std::string> words;
  for (const int token : tokens) {
    if (token < 0 || token >= size())
      fail("vocabulary", "tokens below " + std::to_string(size()), std::to_string(token));
    if (token != kPadding) words.push_back(words_[static_cast<std::size_t>(token)]);
  }
  return join(words, " ");
}

}  // namespace rtlynx
