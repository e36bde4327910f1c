// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/decoder_prompts.h"

#include <iterator>

#include "models/text/text_features.h"

namespace rtlynx {

DecoderPrompts::DecoderPrompts(const std::filesystem::path& folder, const PromptTemplate& around,
                               std::int64_t max_tokens)
    : tokenizer_(folder, qwen2_tokenizer_options()), template_(around), max_tokens_(max_tokens) {}

PromptIds DecoderPrompts::ids(std::string_view prompt) const {
  return templated_prompt_ids(tokenizer_, template_, prompt, max_tokens_);
}

std::string DecoderPrompts::encoding() const {
  // Numbers first, with the length of `before` among them: no two templates make one text.
  std::string text;
  for (const std::int64_t number : {std::ssize(template_.before), template_.dropped, max_tokens_}) {
    text += std::to_string(number) + " ";
  }
  return text.append(template_.before).append(template_.after);
}

std::vector<std::string> DecoderPrompts::warnings(std::string_view prompt) const {
  const std::int64_t cut = ids(prompt).cut;
  if (cut == 0) return {};
  return {"the transformer reads " + std::to_string(max_tokens_) +
          " tokens of prompt and template; the last " + std::to_string(cut) + " were cut"};
}

void DecoderPrompts::encode(DecoderModel& model, const std::vector<std::string>& prompts,
                            const FeaturesCallback& on_features) const {
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const PromptIds own = ids(prompts[i]);
    const torch::Tensor rows = decoder_tokens(model, {{own}}, template_.dropped).front();
    on_features(i, {{kDecoderTokens, rows.to(torch::kCPU)}});
  }
}

}  // namespace rtlynx
