// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>

#include "models/text_to_image/model.h"

namespace rtlynx {

/// FLUX.1 (dev, schnell) in a folder of diffusers' FluxPipeline: CLIP's pooled vector and T5's
/// states condition the transformer, which reads latents as tokens of 2 x 2. As in diffusers,
/// latents are rounded to the weights' type after every step.
std::unique_ptr<TextToImageModel> open_flux_model(const std::filesystem::path& folder,
                                                  const std::filesystem::path& transformer_file);

}  // namespace rtlynx
