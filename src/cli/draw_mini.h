// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "cli/draw_pictures.h"
#include "cli/generate_options.h"
#include "cli/prompts.h"

namespace rtlynx::cli {

/// Draws all jobs with lynx-mini and writes each batch's pictures as soon as they are drawn. What
/// can be refused is refused before anything is drawn.
void draw_mini(const GenerateOptions& options, const std::vector<Prompt>& prompts,
               const std::vector<PictureJob>& jobs);

}  // namespace rtlynx::cli
