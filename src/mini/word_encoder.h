// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/libtorch.h"
#include "io/file.h"
#include "mini/scenes/vocabulary.h"

namespace rtlynx {

/// What the transformer reads of a prompt.
struct TextEmbedding {
  torch::Tensor tokens;  // [B, L, c]
  torch::Tensor pooled;  // [B, c], the mean over L
};

/// lynx-mini's text encoder: a table of words plus a table of places. FLUX gives all text tokens
/// one position, so the order of the words has to come with the embedding.
class TextEncoderImpl : public torch::nn::Module {
 public:
  TextEncoderImpl(Vocabulary vocabulary, std::int64_t max_tokens, std::int64_t channels,
                  const torch::TensorOptions& options = {});

  /// Word ids [B, L] (0 pads) -> embedding. L = max_tokens().
  TextEmbedding forward(const torch::Tensor& ids);

  /// Ids [B, L] of the prompts, on the CPU, padded with 0. Throws UsageError for an unknown word or
  /// a prompt that is too long.
  torch::Tensor encode(const std::vector<std::string>& prompts) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  std::int64_t channels() const { return token_embedding.size(1); }
  std::int64_t max_tokens() const { return position_embedding.size(0); }

  torch::Tensor token_embedding;     // [words, c]
  torch::Tensor position_embedding;  // [L, c]

 private:
  Vocabulary vocabulary_;
};
TORCH_MODULE(TextEncoder);

/// Reads `text_encoder/`: vocabulary.json, config.json and model.safetensors.
TextEncoder load_text_encoder(const std::filesystem::path& folder,
                              const torch::TensorOptions& options);

/// Writes what load_text_encoder reads.
void save_text_encoder(const TextEncoder& encoder, const std::filesystem::path& folder);

/// The same, but the files wait in `files` to be committed, with others that belong to them.
void stage_text_encoder(const TextEncoder& encoder, const std::filesystem::path& folder,
                        FileSet& files);

}  // namespace rtlynx
