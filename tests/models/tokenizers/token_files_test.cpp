// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/token_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/file.h"
#include "refusal.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

std::string vocabulary_refusal(const json& vocabulary) {
  return refusal([&] { token_ids_from_json(vocabulary, "vocab.json"); });
}

std::string merges_refusal(std::string_view text) {
  return refusal([&] { parse_merges(text, "merges.txt"); });
}

TEST(TokenFiles, VocabularyHasIdsOfItsOwn) {
  EXPECT_EQ(token_ids_from_json({{"a", 0}, {"b", 7}}, "vocab.json").at("b"), 7);
  EXPECT_THAT(vocabulary_refusal(json::array()), HasSubstr("required an object of tokens"));
  EXPECT_THAT(vocabulary_refusal(json::object()), HasSubstr("got an empty one"));
  EXPECT_THAT(vocabulary_refusal({{"a", -1}}), HasSubstr("token \"a\": required an id from 0"));
  EXPECT_THAT(vocabulary_refusal({{"a", 0.5}}), HasSubstr("got 0.5"));
  EXPECT_THAT(vocabulary_refusal({{"a", 18446744073709551615u}}), HasSubstr("required an id"));
  EXPECT_THAT(vocabulary_refusal({{"a", 3}, {"b", 3}}),
              HasSubstr("required an id of its own, got 3, which another has"));
}

TEST(TokenFiles, MergesAreLinesOfTwoSymbols) {
  EXPECT_THAT(parse_merges("#version: 0.2\na b\r\n\nab #version\n", "merges.txt"),
              ElementsAre(Pair("a", "b"), Pair("ab", "#version")));
  EXPECT_THAT(parse_merges("a b", "merges.txt"), ElementsAre(Pair("a", "b")));
  EXPECT_THAT(merges_refusal("#version: 0.2\na b\nab"),
              HasSubstr("merges.txt, line 3: required two symbols"));
  EXPECT_THAT(merges_refusal("a b c"), HasSubstr("line 1"));
  EXPECT_THAT(merges_refusal(" a"), HasSubstr("line 1"));
  EXPECT_THAT(merges_refusal("a \xff"), HasSubstr("in UTF-8"));
}

TEST(TokenFiles, AVocabularyWithoutMergesIsRefused) {
  EXPECT_EQ(merges_refusal(""), "merges.txt: required at least one merge, got none");
  EXPECT_EQ(merges_refusal("#version: 0.2\n"), "merges.txt: required at least one merge, got none");
}

json added(const json& token) { return {{"added_tokens_decoder", {{"5", token}}}}; }

std::string added_refusal(const json& config) {
  return refusal([&] { added_tokens_from_json(config, "tokenizer_config.json"); });
}

TEST(TokenFiles, AddedTokensAreReadWithTheirIds) {
  const auto tokens = added_tokens_from_json(
      added({{"content", "<x>"}, {"normalized", true}, {"special", false}}), "");
  ASSERT_EQ(tokens.size(), 1u);
  EXPECT_EQ(tokens[0].text, "<x>");
  EXPECT_EQ(tokens[0].id, 5);
  EXPECT_TRUE(tokens[0].normalized);
}

TEST(TokenFiles, AddedTokensThatWouldNeedMoreAreRefused) {
  EXPECT_THAT(added_refusal(added({{"content", "<x>"}, {"lstrip", true}})),
              HasSubstr("added token 5: required lstrip = false, got true"));
  EXPECT_THAT(added_refusal(added({{"content", ""}})), HasSubstr("required a token with text"));
  EXPECT_THAT(added_refusal(json::object()), HasSubstr("\"added_tokens_decoder\""));
  EXPECT_THAT(added_refusal({{"added_tokens_decoder", {{"-1", {{"content", "x"}}}}}}),
              HasSubstr("required added tokens by their ids, got \"-1\""));
  EXPECT_THAT(added_refusal({{"added_tokens_decoder",
                              {{"1", {{"content", "x"}}}, {"2", {{"content", "x"}}}}}}),
              HasSubstr("required it once"));
}

TEST(TokenFiles, AFolderNamesTheFileThatIsMissingOrOfAnotherTokenizer) {
  const test::TempDir folder;
  write_file_atomically(folder / "vocab.json", R"({"a": 0})");
  EXPECT_THAT(refusal([&] { read_byte_pair_files(folder.path(), "CLIPTokenizer"); }),
              HasSubstr("merges.txt"));
  write_file_atomically(folder / "merges.txt", "a a\n");
  write_file_atomically(folder / "tokenizer_config.json",
                        R"({"tokenizer_class": "LlamaTokenizer"})");
  EXPECT_THAT(refusal([&] { read_byte_pair_files(folder.path(), "CLIPTokenizer"); }),
              HasSubstr("required tokenizer_class CLIPTokenizer, got \"LlamaTokenizer\""));
  write_file_atomically(folder / "tokenizer_config.json",
                        R"({"tokenizer_class": "CLIPTokenizerFast", "added_tokens_decoder": {}})");
  EXPECT_EQ(read_byte_pair_files(folder.path(), "CLIPTokenizer").ids.size(), 1u);
}

}  // namespace
}  // namespace rtlynx
