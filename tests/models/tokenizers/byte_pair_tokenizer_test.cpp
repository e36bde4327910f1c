// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/byte_pair_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "models/tokenizers/small_files.h"
#include "models/tokenizers/unicode.h"
#include "refusal.h"

namespace rtlynx {
namespace {

using test::small_files;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int64_t kStart = 600, kEnd = 601, kTool = 602, kToolbox = 603;

BytePairTokenizer clip() {
  BytePairFiles files = small_files({{"c", "a"}, {"ca", "t</w>"}}, "</w>");
  files.added = {{.text = "<|startoftext|>", .id = kStart, .normalized = true},
                 {.text = "<|endoftext|>", .id = kEnd}};
  return {files, clip_tokenizer_options(), "test"};
}

BytePairTokenizer qwen2() {
  BytePairFiles files = small_files({{"c", "a"}, {"ca", "t"}, {"\u0120", "cat"}});
  files.added = {{.text = "<|endoftext|>", .id = kEnd},
                 {.text = "<tool>", .id = kTool},
                 {.text = "<tool>box", .id = kToolbox}};
  return {files, qwen2_tokenizer_options(), "test"};
}

/// The bytes of ids below 256, to see what a text without merges is cut and normalized to.
std::string bytes_of(const std::vector<std::int64_t>& ids) {
  std::string bytes;
  for (const std::int64_t id : ids) bytes += id < 256 ? static_cast<char>(id) : '?';
  return bytes;
}

TEST(ClipTokenizer, FoldsCaseAndWhiteSpace) {
  EXPECT_THAT(clip().encode("CAT"), ElementsAre(513));
  EXPECT_THAT(clip().encode("  cat\n\u3000cat "), ElementsAre(513, 513));
  EXPECT_EQ(clip().encode("cafe\u0301"), clip().encode("CAF\u00c9"));
  EXPECT_THAT(clip().encode(""), IsEmpty());
  EXPECT_THAT(clip().encode(" \t\n"), IsEmpty());
}

TEST(ClipTokenizer, DigitsStandAloneAndContractionsAreCutOff) {
  const auto ends = [](char c) { return 256 + c; };
  EXPECT_THAT(clip().encode("12"), ElementsAre(ends('1'), ends('2')));
  EXPECT_THAT(clip().encode("a's!?"), ElementsAre(ends('a'), '\'', ends('s'), '!', ends('?')));
}

TEST(ClipTokenizer, FindsItsTokensBeforeAndAfterFolding) {
  EXPECT_THAT(clip().encode("cat<|endoftext|>cat"), ElementsAre(513, kEnd, 513));
  EXPECT_THAT(clip().encode("<|startoftext|>"), ElementsAre(kStart));
  EXPECT_THAT(clip().encode("<|STARTOFTEXT|>"), ElementsAre(kStart));
  // This one is looked for in the raw text alone; what folding makes of it is text.
  const auto spelled = clip().encode("<|ENDOFTEXT|>!");
  EXPECT_EQ(spelled.front(), '<');
  EXPECT_EQ(spelled.back(), 256 + '!');
  EXPECT_EQ(spelled[spelled.size() - 2], 256 + '>') << "the token's text ends a word";
}

TEST(Qwen2Tokenizer, ASpaceBelongsToTheWordBehindIt) {
  EXPECT_THAT(qwen2().encode("cat cat"), ElementsAre(257, 258));
  EXPECT_THAT(qwen2().encode("cat  cat"), ElementsAre(257, ' ', 258));
  EXPECT_THAT(qwen2().encode("Cat"), ElementsAre('C', 'a', 't')) << "case stays";
}

TEST(Qwen2Tokenizer, TheLongerOfTwoAddedTokensWins) {
  EXPECT_THAT(qwen2().encode("<tool>cat<tool>box"), ElementsAre(kTool, 257, kToolbox));
  EXPECT_THAT(qwen2().encode("<tool<tool>"), ElementsAre('<', 't', 'o', 'o', 'l', kTool));
  EXPECT_EQ(bytes_of(qwen2().encode("<TOOL>")), "<TOOL>");
}

TEST(Qwen2Tokenizer, KeepsEveryByteOfNormalizedText) {
  for (const char* text : {"a \n\n b\r\n\t ", "\u732b\u0301 \u0085\u2003x", "it's IT'S 's",
                           "\U0001f468\u200d\U0001f469 e\u0301\u0323 \ufeff\u0000 12,3"}) {
    EXPECT_EQ(bytes_of(qwen2().encode(text)), nfc(text));
  }
}

TEST(BytePairTokenizer, RefusesInvalidUtf8AsAUsageError) {
  EXPECT_THROW(qwen2().encode("cat \xff"), UsageError);
  EXPECT_THROW(clip().encode("\xed\xa0\x80"), UsageError);
}

TEST(BytePairTokenizer, KnowsItsAddedTokensAndHowManyRowsItNeeds) {
  EXPECT_EQ(qwen2().added_id("<tool>"), kTool);
  EXPECT_EQ(qwen2().id_limit(), kToolbox + 1);
  EXPECT_EQ(refusal([] { qwen2().added_id("<none>"); }),
            "test: required the added token \"<none>\", got none");
}

TEST(BytePairTokenizer, RefusesAnAddedTokenWithAnotherIdThanTheVocabularys) {
  BytePairFiles files = small_files({{"c", "a"}});
  files.added = {{.text = "ca", .id = 3}};
  EXPECT_THAT(refusal([&] { BytePairTokenizer(files, qwen2_tokenizer_options(), "test"); }),
              HasSubstr("added token \"ca\": required the vocabulary's id 256, got 3"));
}

}  // namespace
}  // namespace rtlynx
