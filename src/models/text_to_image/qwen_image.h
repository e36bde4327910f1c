// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>

#include "models/text_to_image/model.h"

namespace rtlynx {

/// Qwen-Image (2512 too) in a folder of diffusers' QwenImagePipeline: the states of Qwen2.5-VL's
/// language part condition the transformer, which reads latents as tokens of 2 x 2. As in
/// diffusers, latents are rounded to the weights' type after every step.
std::unique_ptr<TextToImageModel> open_qwen_image_model(
    const std::filesystem::path& folder, const std::filesystem::path& transformer_file);

}  // namespace rtlynx
