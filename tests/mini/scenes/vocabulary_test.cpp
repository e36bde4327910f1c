// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace rtlynx {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Vocabulary small_vocabulary() {
  return Vocabulary({"<pad>", ",", "red", "blue", "circle", "square"}, {"a", "the"},
                    {{"and", ","}, {"circles", "circle"}});
}

std::string message_for(std::string_view prompt, int max_tokens = kMaxTokens) {
  try {
    small_vocabulary().encode(prompt, max_tokens);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Vocabulary, EncodesWordsInOrder) {
  EXPECT_THAT(small_vocabulary().encode("red circle, blue square"), ElementsAre(2, 4, 1, 3, 5));
}

TEST(Vocabulary, LowersLettersAndSplitsOnPunctuation) {
  EXPECT_THAT(small_vocabulary().encode("  The RED-circle!\tblue.square\n"),
              ElementsAre(2, 4, 3, 5));
}

TEST(Vocabulary, EmptyPromptsHaveNoTokens) {
  for (const char* prompt : {"", "  ", "the a", ",", "and, ;"})
    EXPECT_THAT(small_vocabulary().encode(prompt), IsEmpty()) << prompt;
}

TEST(Vocabulary, DropsNeedlessCommas) {
  EXPECT_THAT(small_vocabulary().encode(", red, and the, circles; "), ElementsAre(2, 1, 4));
}

TEST(Vocabulary, CommasMeanNothingWithoutAToken) {
  EXPECT_THAT(Vocabulary({"<pad>", "red"}, {}, {}).encode("red, red"), ElementsAre(1, 1));
}

TEST(Vocabulary, UnknownWordsAreNamedWithTheirPlaceAndNeighbours) {
  EXPECT_THAT(message_for("a red cirkle"),
              AllOf(HasSubstr("\"cirkle\" at character 7"), HasSubstr("known words are circle")));
  EXPECT_THAT(message_for("<pad>"), HasSubstr("\"pad\""));
  // A letter beyond ASCII belongs to its word, and the message shows it whole.
  EXPECT_THAT(message_for("red caf\xc3\xa9"), HasSubstr("\"caf\xc3\xa9\" at character 5"));
  EXPECT_THAT(message_for("\xc3\xa9t\xc3\xa9"), HasSubstr("at character 1"));
  // Characters are counted, not bytes: the dash and the quotes are three bytes each.
  EXPECT_THAT(message_for("red, cirkle"), HasSubstr("at character 6"));
}

TEST(Vocabulary, LongNonsenseIsCut) {
  const std::string message = message_for(std::string(1 << 20, 'x'));
  EXPECT_THAT(message, HasSubstr("xxx...\" at character 1"));
  EXPECT_LT(message.size(), 300U);
}

TEST(Vocabulary, TooManyTokensAreCounted) {
  EXPECT_EQ(message_for("red red", 2), "no error");
  EXPECT_THAT(message_for("red red red", 2), HasSubstr("at most 2 tokens, got 3"));
}

TEST(Vocabulary, DecodesWithoutPadding) {
  EXPECT_EQ(small_vocabulary().decode({2, 4, 0, 0}), "red circle");
  EXPECT_THROW(small_vocabulary().decode({6}), Error);
}

TEST(Vocabulary, RebuiltFromItsPartsIsTheSame) {
  const Vocabulary first = small_vocabulary();
  const Vocabulary second(first.words(), first.ignored(), first.aliases());
  EXPECT_EQ(second.encode("a red and blue circles"), first.encode("a red and blue circles"));
}

TEST(Vocabulary, RejectsWordsThatClash) {
  EXPECT_THROW(Vocabulary({}, {}, {}), UsageError);
  EXPECT_THROW(Vocabulary({"<pad>", "red", "red"}, {}, {}), UsageError);
  EXPECT_THROW(Vocabulary({"<pad>", "red"}, {"red"}, {}), UsageError);
  EXPECT_THROW(Vocabulary({"<pad>", "red"}, {}, {{"rot", "blue"}}), UsageError);
  EXPECT_THROW(Vocabulary({"<pad>", "red"}, {}, {{"nothing", "<pad>"}}), UsageError);
}

}  // namespace
}  // namespace rtlynx
