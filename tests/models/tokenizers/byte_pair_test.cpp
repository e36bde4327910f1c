// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/byte_pair.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "models/tokenizers/small_files.h"
#include "refusal.h"

namespace rtlynx {
namespace {

using test::small_files;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::int64_t> encode(const BytePairFiles& files, std::string_view word,
                                 std::string_view suffix = "") {
  std::vector<std::int64_t> ids;
  BytePairEncoder(files.ids, files.merges, suffix, "test").encode(word, ids);
  return ids;
}

TEST(BytePair, ByteSymbolsAreThoseOfGpt2) {
  EXPECT_EQ(byte_symbol('a'), "a");
  EXPECT_EQ(byte_symbol(' '), "\u0120");
  EXPECT_EQ(byte_symbol('\n'), "\u010a");
  EXPECT_EQ(byte_symbol(0), "\u0100");
  EXPECT_EQ(byte_symbol(0xff), "\u00ff");
  EXPECT_EQ(byte_symbol(0xad), "\u0143");
}

TEST(BytePair, TheFirstMergeOfTheListWins) {
  // "bc" stands before "ab": abc becomes a, bc.
  EXPECT_THAT(encode(small_files({{"b", "c"}, {"a", "b"}}), "abc"), ElementsAre('a', 256));
  EXPECT_THAT(encode(small_files({{"a", "b"}, {"b", "c"}}), "abc"), ElementsAre(256, 'c'));
}

TEST(BytePair, OfEqualPairsTheLeftmostIsJoined) {
  EXPECT_THAT(encode(small_files({{"a", "a"}}), "aaa"), ElementsAre(256, 'a'));
  EXPECT_THAT(encode(small_files({{"a", "a"}, {"aa", "aa"}}), "aaaa"), ElementsAre(257));
}

TEST(BytePair, TheSuffixEndsAWord) {
  const BytePairFiles files = small_files({{"a", "b</w>"}, {"a", "b"}}, "</w>");
  EXPECT_THAT(encode(files, "abab", "</w>"), ElementsAre(513, 512));
  EXPECT_THAT(encode(files, "a", "</w>"), ElementsAre(256 + 'a'));
}

TEST(BytePair, BytesOutsideAsciiAreSymbolsOfTheirOwn) {
  EXPECT_THAT(encode(small_files({{"a", "b"}}), "\xe7\x8c\xab"), ElementsAre(0xe7, 0x8c, 0xab));
}

/// The definition: as long as a pair can be joined, join the leftmost of the lowest rank.
std::vector<std::string> join_by_definition(std::vector<std::string> parts, const Merges& merges) {
  std::map<std::pair<std::string, std::string>, std::size_t> rank;
  for (std::size_t i = 0; i < merges.size(); ++i) rank[merges[i]] = i;
  for (;;) {
    std::size_t best_rank = merges.size(), best = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = rank.find({parts[i], parts[i + 1]});
      if (found != rank.end() && found->second < best_rank) {
        best_rank = found->second;
        best = i;
      }
    }
    if (best_rank == merges.size()) return parts;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(BytePair, RandomWordsAreJoinedByTheDefinition) {
  std::mt19937 random(5);
  const auto pick = [&](std::size_t count) {
    return std::uniform_int_distribution<std::size_t>(0, count - 1)(random);
  };
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<std::string> symbols = {"a", "b", "c"};
    Merges merges;
    while (merges.size() < 12) {
      const std::pair<std::string, std::string> merge = {symbols[pick(symbols.size())],
                                                         symbols[pick(symbols.size())]};
      const std::string joined = merge.first + merge.second;
      // Each result once, so that ids tell symbols apart.
      if (std::find(symbols.begin(), symbols.end(), joined) != symbols.end()) continue;
      merges.push_back(merge);
      symbols.push_back(joined);
    }
    const BytePairFiles files = small_files(merges);
    std::string word;
    std::vector<std::string> parts;
    for (std::size_t length = 1 + pick(30); word.size() < length;) {
      parts.push_back(symbols[pick(3)]);
      word += parts.back();
    }
    std::vector<std::int64_t> expected;
    for (const std::string& part : join_by_definition(parts, merges)) {
      expected.push_back(files.ids.at(part));
    }
    EXPECT_EQ(encode(files, word), expected) << word;
  }
}

TEST(BytePair, AVocabularyThatLacksASymbolIsRefused) {
  const auto message = [](const BytePairFiles& files) {
    return refusal([&] { BytePairEncoder(files.ids, files.merges, "", "test"); });
  };
  BytePairFiles files = small_files({{"a", "b"}});
  files.ids.erase("x");
  EXPECT_EQ(message(files), "test: required token \"x\" in the vocabulary, got none");
  files = small_files({{"a", "b"}});
  files.ids.erase("ab");
  EXPECT_EQ(message(files), "test: required token \"ab\" in the vocabulary, got none");
  files = small_files({{"a", "b"}});
  files.merges.emplace_back("a", "b");
  EXPECT_THAT(message(files), HasSubstr("required each merge once, got \"a b\" twice"));
}

}  // namespace
}  // namespace rtlynx
