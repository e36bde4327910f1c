// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "models/tokenizers/byte_pair_tokenizer.h"
#include "models/tokenizers/t5_tokenizer.h"

namespace rtlynx {

/// What a text encoder reads of one prompt.
struct PromptIds {
  std::vector<std::int64_t> ids;
  std::int64_t cut = 0;  ///< tokens at the prompt's end that did not fit
};

inline constexpr std::int64_t kClipTokens = 77;

/// FLUX's CLIP: start, prompt, end, and the end token again up to 77.
PromptIds clip_prompt_ids(const BytePairTokenizer& tokenizer, std::string_view prompt);

/// FLUX's T5: prompt, end, padding up to `length` (512 for FLUX.1-dev, 256 for schnell).
PromptIds t5_prompt_ids(const T5Tokenizer& tokenizer, std::string_view prompt, std::int64_t length);

/// The text that a language model reads around a prompt.
struct PromptTemplate {
  std::string_view before;
  std::string_view after;
  std::int64_t dropped = 0;  ///< tokens at the front that the transformer does not see
};

extern const PromptTemplate kQwenImageTemplate;
extern const PromptTemplate kZImageTemplate;

/// The prompt in its template, cut at the right (which may take the template's end as well) so that
/// at most `max_tokens` follow the dropped ones.
PromptIds templated_prompt_ids(const BytePairTokenizer& tokenizer, const PromptTemplate& around,
                               std::string_view prompt, std::int64_t max_tokens);

}  // namespace rtlynx
