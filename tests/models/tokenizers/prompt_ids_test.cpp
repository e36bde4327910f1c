// SPDX-License-Identifier: Apache-2.0
// With small tokenizers (tools/make_text_goldens.py); text_parity_test.cpp compares the same ids'
// embeddings with diffusers'.
#include "models/tokenizers/prompt_ids.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "refusal.h"

namespace rtlynx {
namespace {

const std::filesystem::path kGoldens =
    std::filesystem::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens";

std::string words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "cat ";
  return text;
}

TEST(PromptIds, ClipFramesAndPadsWithTheEnd) {
  const BytePairTokenizer tokenizer(kGoldens / "text_flux" / "tokenizer", clip_tokenizer_options());
  const std::int64_t start = tokenizer.added_id("<|startoftext|>");
  const std::int64_t end = tokenizer.added_id("<|endoftext|>");
  const std::int64_t cat = tokenizer.encode("cat").at(0);
  const PromptIds two = clip_prompt_ids(tokenizer, "cat cat");
  ASSERT_EQ(two.ids.size(), 77u);
  EXPECT_EQ(two.ids[0], start);
  EXPECT_EQ(two.ids[2], cat);
  EXPECT_EQ(two.ids[3], end);
  EXPECT_EQ(two.ids[76], end);
  EXPECT_EQ(two.cut, 0);
  const PromptIds full = clip_prompt_ids(tokenizer, words(75));
  EXPECT_EQ(full.cut, 0);
  EXPECT_EQ(full.ids[75], cat);
  const PromptIds cut = clip_prompt_ids(tokenizer, words(80));
  EXPECT_EQ(cut.ids, full.ids);
  EXPECT_EQ(cut.cut, 5);
}

TEST(PromptIds, T5EndsAndPadsToTheLength) {
  const T5Tokenizer tokenizer(kGoldens / "text_flux" / "tokenizer_2");
  const std::vector<std::int64_t> cat = tokenizer.encode("cat");
  const PromptIds one = t5_prompt_ids(tokenizer, "cat", 16);
  ASSERT_EQ(one.ids.size(), 16u);
  EXPECT_EQ(one.ids[cat.size()], tokenizer.end_id());
  EXPECT_EQ(one.ids[cat.size() + 1], tokenizer.padding_id());
  EXPECT_EQ(one.ids[15], tokenizer.padding_id());
  EXPECT_EQ(one.cut, 0);
  const PromptIds cut = t5_prompt_ids(tokenizer, words(20), 16);
  ASSERT_EQ(cut.ids.size(), 16u);
  EXPECT_EQ(cut.ids[15], tokenizer.end_id());
  EXPECT_EQ(cut.cut, std::ssize(tokenizer.encode(words(20))) - 15);
  EXPECT_NE(refusal([&] { t5_prompt_ids(tokenizer, "cat", 0); }), "accepted");
}

TEST(PromptIds, ATemplateSurroundsThePromptAndIsCutAtTheRight) {
  const BytePairTokenizer tokenizer(kGoldens / "text_z_image" / "tokenizer",
                                    qwen2_tokenizer_options());
  const PromptIds whole = templated_prompt_ids(tokenizer, kZImageTemplate, "cat", 512);
  EXPECT_EQ(whole.ids,
            tokenizer.encode("<|im_start|>user\ncat<|im_end|>\n<|im_start|>assistant\n"));
  EXPECT_EQ(whole.cut, 0);
  const PromptIds cut = templated_prompt_ids(tokenizer, kZImageTemplate, "cat", 5);
  EXPECT_EQ(cut.ids, std::vector<std::int64_t>(whole.ids.begin(), whole.ids.begin() + 5));
  EXPECT_EQ(cut.cut, std::ssize(whole.ids) - 5);
  const PromptIds dropped = templated_prompt_ids(tokenizer, kQwenImageTemplate, "cat", 5);
  EXPECT_EQ(dropped.ids.size(), 34u + 5u);
}

// What a prompt says is text: no weights in parentheses, no format fields.
TEST(PromptIds, PromptsAreLiteral) {
  const BytePairTokenizer tokenizer(kGoldens / "text_z_image" / "tokenizer",
                                    qwen2_tokenizer_options());
  const auto ids = templated_prompt_ids(tokenizer, kZImageTemplate, "(cat:1.3) {} [dog]", 512).ids;
  EXPECT_EQ(ids, tokenizer.encode("<|im_start|>user\n(cat:1.3) {} [dog]<|im_end|>\n"
                                  "<|im_start|>assistant\n"));
}

}  // namespace
}  // namespace rtlynx
