// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "models/text/decoder.h"
#include "models/text_to_image/model.h"
#include "models/tokenizers/prompt_ids.h"

namespace rtlynx {

/// A prompt's feature: what a language model made of it, [L, d].
inline constexpr const char* kDecoderTokens = "tokens";

/// The prompts of a transformer that reads a language model's states: Qwen-Image, Z-Image.
class DecoderPrompts {
 public:
  /// Reads a `tokenizer/` folder. Of each prompt in its template the transformer reads at most
  /// `max_tokens`, as diffusers' pipelines cut them.
  DecoderPrompts(const std::filesystem::path& folder, const PromptTemplate& around,
                 std::int64_t max_tokens);

  /// One more than the largest id.
  std::int64_t id_limit() const { return tokenizer_.id_limit(); }

  /// How prompts become features: template and length.
  std::string encoding() const;

  /// Says what of a prompt is cut. Throws UsageError for invalid UTF-8.
  std::vector<std::string> warnings(std::string_view prompt) const;

  /// Encodes the prompts one after the other.
  void encode(DecoderModel& model, const std::vector<std::string>& prompts,
              const FeaturesCallback& on_features) const;

 private:
  PromptIds ids(std::string_view prompt) const;

  BytePairTokenizer tokenizer_;
  PromptTemplate template_;
  std::int64_t max_tokens_;
};

}  // namespace rtlynx
