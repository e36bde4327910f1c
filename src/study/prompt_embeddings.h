// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models/blockwise/blockwise.h"

namespace rtlynx {

/// What text encoders gave for some prompts.
struct PromptEmbeddings {
  std::vector<PromptFeatures> prompts;
  std::optional<PromptFeatures> negative;  ///< away from which classifier-free guidance draws
  std::string revision;                    ///< of the file
};

/// Reads a safetensors file with a tensor "<i>.<feature>" for every prompt i, from 0 on, and every
/// feature, and perhaps "negative.<feature>". Throws Error for anything else: prompts that are left
/// out, other names, shapes or types, values that are not finite.
PromptEmbeddings read_prompt_embeddings(const std::filesystem::path& path,
                                        const std::vector<FeatureShape>& features);

}  // namespace rtlynx
