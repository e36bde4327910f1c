// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "models/text_to_image/model.h"

namespace rtlynx {

/// Whether a diffusers pipeline of this class is one of those below.
bool is_text_to_image_pipeline(std::string_view pipeline_class);

/// Opens the model in `folder` by the pipeline class that its model_index.json names. Reads
/// configurations, tokenizers and the heads of the files with weights. Throws Error, naming file
/// and what it lacks, for a class that is not supported and for parts that are missing, cut off or
/// do not fit together.
/// `transformer_file`, unless it is empty, has the transformer's weights in place of the folder's.
std::unique_ptr<TextToImageModel> open_text_to_image_model(
    const std::filesystem::path& folder, const std::filesystem::path& transformer_file = {});

}  // namespace rtlynx
