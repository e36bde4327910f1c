// SPDX-License-Identifier: Apache-2.0
#include "mini/word_encoder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "temp_dir.h"

namespace rtlynx {
namespace {

Vocabulary small_vocabulary() {
  return Vocabulary({"<pad>", "red", "blue"}, {"a"}, {{"crimson", "red"}});
}

TEST(TextEncoder, AddsWordsAndPlaces) {
  TextEncoder encoder(small_vocabulary(), 3, 2);
  const torch::NoGradGuard no_grad;
  encoder->token_embedding.copy_(torch::tensor({{0.0F, 0.0F}, {1.0F, 2.0F}, {3.0F, 4.0F}}));
  encoder->position_embedding.copy_(torch::tensor({{10.0F, 0.0F}, {20.0F, 0.0F}, {30.0F, 0.0F}}));
  const torch::Tensor ids = encoder->encode({"a blue crimson"});
  EXPECT_TRUE(ids.equal(torch::tensor({{2, 1, 0}}, torch::kInt64)));
  const TextEmbedding text = encoder(ids);
  EXPECT_TRUE(text.tokens.equal(torch::tensor({{{13.0F, 4.0F}, {21.0F, 2.0F}, {30.0F, 0.0F}}})));
  EXPECT_TRUE(text.pooled.allclose(torch::tensor({{64.0F / 3, 2.0F}})));
}

TEST(TextEncoder, RefusesLongAndUnknownPrompts) {
  TextEncoder encoder(small_vocabulary(), 3, 2);
  EXPECT_THROW(encoder->encode({"red red red red"}), UsageError);
  EXPECT_THROW(encoder->encode({"green"}), UsageError);
}

class TextEncoderFolder : public testing::Test {
 protected:
  void SetUp() override {
    TextEncoder encoder(small_vocabulary(), 3, 2);
    const torch::NoGradGuard no_grad;
    encoder->token_embedding.fill_(0.5);
    encoder->position_embedding.fill_(-1);
    save_text_encoder(encoder, folder_);
  }

  std::string refusal() {
    try {
      load_text_encoder(folder_, torch::kFloat32);
    } catch (const UsageError&) {
      return "a usage error";
    } catch (const Error& error) {
      return error.what();
    }
    return "loaded";
  }

  test::TempDir temporary_;
  std::filesystem::path folder_ = temporary_.path();
};

TEST_F(TextEncoderFolder, ComesBack) {
  const TextEncoder encoder = load_text_encoder(folder_, torch::kFloat32);
  EXPECT_EQ(encoder->vocabulary().words(), small_vocabulary().words());
  EXPECT_EQ(encoder->vocabulary().aliases(), small_vocabulary().aliases());
  EXPECT_EQ(encoder->max_tokens(), 3);
  EXPECT_TRUE(encoder->token_embedding.equal(torch::full({3, 2}, 0.5)));
}

TEST_F(TextEncoderFolder, VocabularyHasToFitTheTable) {
  std::ofstream(folder_ / "vocabulary.json")
      << R"({"words": ["<pad>", "red"], "ignored": [], "aliases": {}})";
  EXPECT_NE(refusal().find("tensor token_embedding"), std::string::npos) << refusal();
}

TEST_F(TextEncoderFolder, ABadVocabularyIsNamed) {
  std::ofstream(folder_ / "vocabulary.json")
      << R"({"words": ["<pad>", 3, "x"], "ignored": [], "aliases": {}})";
  EXPECT_NE(refusal().find("\"words\""), std::string::npos) << refusal();
  std::ofstream(folder_ / "vocabulary.json")
      << R"({"words": ["<pad>", "red", "red"], "ignored": [], "aliases": {}})";
  EXPECT_NE(refusal().find("vocabulary.json"), std::string::npos) << refusal();
}

}  // namespace
}  // namespace rtlynx
