// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>

#include "models/text_to_image/model.h"

namespace rtlynx {

/// Z-Image or Z-Image-Turbo in a folder of diffusers' ZImagePipeline: the states of Qwen3 condition
/// the transformer. As in diffusers, latents stay in fp32. The two differ in what they draw by when
/// nothing else is asked for, and are told apart by their scheduler's shift.
std::unique_ptr<TextToImageModel> open_z_image_model(const std::filesystem::path& folder,
                                                     const std::filesystem::path& transformer_file);

}  // namespace rtlynx
