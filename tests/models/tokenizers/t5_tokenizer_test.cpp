// SPDX-License-Identifier: Apache-2.0
// With a small model (tools/make_text_goldens.py) whose rules turn a full-width A into "a" and a
// newline into a space.
#include "models/tokenizers/t5_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "io/file.h"
#include "refusal.h"

namespace rtlynx {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int64_t kUnknown = 2, kPieces = 50;

const std::filesystem::path kFolder =
    std::filesystem::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens" / "text_flux" / "tokenizer_2";

std::string model_bytes() { return read_file(kFolder / "spiece.model", 1 << 20); }

TEST(T5Tokenizer, AppliesTheModelsOwnRules) {
  const T5Tokenizer tokenizer(kFolder);
  EXPECT_EQ(tokenizer.encode("a red cat"), tokenizer.encode("\uff21 red\ncat"));
  EXPECT_NE(tokenizer.encode("a red cat"), tokenizer.encode("A red cat"));
  EXPECT_EQ(tokenizer.encode("a red cat"), tokenizer.encode("  a   red cat "));
  EXPECT_THAT(tokenizer.encode(""), IsEmpty());
}

TEST(T5Tokenizer, NextLineIsWhiteSpace) {
  const T5Tokenizer tokenizer(kFolder);
  EXPECT_EQ(tokenizer.encode("a\u0085cat"), tokenizer.encode("a cat"));
}

TEST(T5Tokenizer, CutsAddedTokensOutOfTheText) {
  const T5Tokenizer tokenizer(kFolder);
  auto expected = tokenizer.encode("a");
  expected.push_back(kPieces + 99 - 7);
  for (const std::int64_t id : tokenizer.encode("cat")) expected.push_back(id);
  expected.push_back(tokenizer.end_id());
  EXPECT_EQ(tokenizer.encode("a <extra_id_7>cat</s>"), expected);
  EXPECT_EQ(tokenizer.id_limit(), kPieces + 100);
  EXPECT_EQ(tokenizer.end_id(), 1);
  EXPECT_EQ(tokenizer.padding_id(), 0);
}

TEST(T5Tokenizer, WhatTheModelDoesNotKnowIsOneUnknown) {
  EXPECT_THAT(T5Tokenizer(kFolder).encode("a \u732b\u732b"),
              ElementsAre(testing::_, testing::_, kUnknown));
}

TEST(T5Tokenizer, RefusesInvalidUtf8AsAUsageError) {
  EXPECT_THROW(T5Tokenizer(kFolder).encode("cat \xff"), UsageError);
}

TEST(T5Tokenizer, RefusesBytesThatAreNoModel) {
  for (const std::string& bytes : {std::string(), std::string("no model"), model_bytes() + "\xff",
                                   model_bytes().substr(0, 700)}) {
    EXPECT_THAT(refusal([&] { T5Tokenizer(bytes, {}, "spiece.model"); }),
                HasSubstr("spiece.model: required"))
        << bytes.size() << " bytes";
  }
}

// libsentencepiece alone follows a damaged table out of its bounds.
TEST(T5Tokenizer, EveryDamagedByteIsRefusedOrHarmless) {
  const std::string model = model_bytes();
  int refused_tables = 0;
  for (std::size_t at = 0; at < model.size(); ++at) {
    for (const char value : {'\x00', '\x41', '\xff'}) {
      std::string damaged = model;
      damaged[at] = value;
      const std::string message = refusal(
          [&] { T5Tokenizer(damaged, {}, "spiece.model").encode("a \uff21 red\ncat \u732b"); });
      refused_tables += message.find("table of replacements") != std::string::npos ? 1 : 0;
    }
  }
  EXPECT_GT(refused_tables, 0);
}

TEST(T5Tokenizer, RefusesAnotherKindOfModel) {
  // In the trainer's part (field 2), field 3: 2 is a byte-pair model.
  EXPECT_THAT(refusal([] { T5Tokenizer(std::string("\x12\x02\x18\x02"), {}, "spiece.model"); }),
              HasSubstr("required a unigram model, got model type 2"));
}

TEST(T5Tokenizer, RefusesAnAddedTokenWithTheIdOfAPiece) {
  EXPECT_THAT(
      refusal([] { T5Tokenizer(model_bytes(), {{.text = "<pad>", .id = 9}}, "spiece.model"); }),
      HasSubstr("added token \"<pad>\": required an id that is not the model's own, got 9 of"));
}

}  // namespace
}  // namespace rtlynx
