// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace rtlynx {

inline constexpr int kMaxTokens = 24;

/// A closed list of words and the way from a prompt to their indices.
class Vocabulary {
 public:
  static constexpr int kPadding = 0;  // the index of the padding token

  /// `words[0]` is the padding token, which no prompt can name. `ignored` words leave no token;
  /// `aliases` maps further spellings to members of `words`. Throws UsageError if these clash.
  Vocabulary(std::vector<std::string> words, std::vector<std::string> ignored,
             std::map<std::string, std::string> aliases);

  /// The tokens of a prompt, without padding; none for an empty prompt. Letters are lower-cased,
  /// spaces and punctuation separate words. Commas and semicolons are tokens if "," is a word of
  /// the vocabulary; repeated, leading and trailing ones are dropped. Throws UsageError for an
  /// unknown word, naming the closest known ones and where it begins, in characters, and for more
  /// than `max_tokens` tokens.
  std::vector<int> encode(std::string_view prompt, int max_tokens = kMaxTokens) const;

  /// The words of the tokens, separated by spaces; padding is left out.
  std::string decode(const std::vector<int>& tokens) const;

  int size() const { return static_cast<int>(words_.size()); }
  const std::vector<std::string>& words() const { return words_; }
  const std::vector<std::string>& ignored() const { return ignored_; }
  const std::map<std::string, std::string>& aliases() const { return aliases_; }

 private:
  std::vector<std::string> closest(std::string_view word) const;
  std::string suggest(std::string_view word) const;

  std::vector<std::string> words_;
  std::vector<std::string> ignored_;
  std::map<std::string, std::string> aliases_;
  std::unordered_map<std::string, int> index_;  // every spelling; kIgnored for ignored words
};

}  // namespace rtlynx
