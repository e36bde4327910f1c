// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizers/prompt_ids.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace rtlynx {
namespace {

/// Shortens `ids` to at most `limit`; returns how many went.
std::int64_t cut_to(std::vector<std::int64_t>& ids, std::int64_t limit) {
  const std::int64_t cut = std::max<std::int64_t>(0, std::ssize(ids) - limit);
  ids.resize(ids.size() - static_cast<std::size_t>(cut));
  return cut;
}

}  // namespace

const PromptTemplate kQwenImageTemplate = {
    .before =
        "<|im_start|>system\nDescribe the image by detailing the color, shape, size, "
        "texture, quantity, text, spatial relationships of the objects and background:"
        "<|im_end|>\n<|im_start|>user\n",
    .after = "<|im_end|>\n<|im_start|>assistant\n",
    .dropped = 34};

const PromptTemplate kZImageTemplate = {.before = "<|im_start|>user\n",
                                        .after = "<|im_end|>\n<|im_start|>assistant\n"};

PromptIds clip_prompt_ids(const BytePairTokenizer& tokenizer, std::string_view prompt) {
  const std::int64_t end = tokenizer.added_id("<|endoftext|>");
  PromptIds result{.ids = tokenizer.encode(prompt)};
  result.cut = cut_to(result.ids, kClipTokens - 2);
  result.ids.insert(result.ids.begin(), tokenizer.added_id("<|startoftext|>"));
  result.ids.resize(kClipTokens, end);
  return result;
}

PromptIds t5_prompt_ids(const T5Tokenizer& tokenizer, std::string_view prompt,
                        std::int64_t length) {
  require(length > 0, "T5 prompt", "a length of at least 1", std::to_string(length));
  PromptIds result{.ids = tokenizer.encode(prompt)};
  result.cut = cut_to(result.ids, length - 1);
  result.ids.push_back(tokenizer.end_id());
  result.ids.resize(static_cast<std::size_t>(length), tokenizer.padding_id());
  return result;
}

PromptIds templated_prompt_ids(const BytePairTokenizer& tokenizer, const PromptTemplate& around,
                               std::string_view prompt, std::int64_t max_tokens) {
  require(max_tokens > 0, "prompt", "room for at least 1 token", std::to_string(max_tokens));
  std::string text(around.before);
  text.append(prompt).append(around.after);
  PromptIds result{.ids = tokenizer.encode(text)};
  result.cut = cut_to(result.ids, around.dropped + max_tokens);
  return result;
}

}  // namespace rtlynx
