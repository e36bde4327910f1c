// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/png.h"

namespace rtlynx::cli {

/// How a picture was made, for the PNG's text: for A1111 and ComfyUI under `parameters`, for
/// programs as JSON under `rtlynx`. No chunk is named `prompt` or `workflow`: ComfyUI reads those
/// as JSON of its own. `facts` has prompt, seed, model, steps, guidance, width and height, perhaps
/// a negative prompt with true_cfg, and whatever else the picture depends on.
std::vector<PngText> picture_texts(const nlohmann::ordered_json& facts);

}  // namespace rtlynx::cli
