// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/libtorch.h"
#include "models/blockwise/blockwise.h"
#include "models/text_to_image/model.h"

namespace rtlynx {

/// What text encoders gave for some prompts.
struct PromptEmbeddings {
  std::vector<PromptFeatures> prompts;
  std::optional<PromptFeatures> negative;  ///< away from which classifier-free guidance draws
  std::string revision;                    ///< of the file, or of prompts and text encoders
};

/// Reads a safetensors file with a tensor "<i>.<feature>" for every prompt i, from 0 on, and every
/// feature, and perhaps "negative.<feature>". Throws Error for anything else: prompts that are left
/// out, other names, shapes or types, values that are not finite.
PromptEmbeddings read_prompt_embeddings(const std::filesystem::path& path,
                                        const std::vector<FeatureShape>& features);

/// What a model's own text encoders make of prompts; they are freed behind it. `on_encoded` gets
/// the number of finished ones. Throws Error where an encoder does not fit into the memory, and
/// unless a transformer with these features reads what they make.
PromptEmbeddings encode_prompts(const TextToImageModel& model,
                                const std::vector<FeatureShape>& features,
                                const std::vector<std::string>& prompts,
                                const std::optional<std::string>& negative,
                                const torch::TensorOptions& options, const PartCallback& on_load,
                                const LoadProgress& on_encoded);

}  // namespace rtlynx
