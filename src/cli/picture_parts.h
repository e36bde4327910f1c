// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "cli/draw_pictures.h"

namespace rtlynx::cli {

/// Consecutive jobs of one size.
struct PicturePart {
  std::size_t first = 0;  ///< job
  PictureRequest request;
  PictureSettings settings;

  int steps() const;
};

/// All jobs, in parts that are drawn in one go. With --compare these are small: their dense
/// pictures wait in memory for the sparse ones. Batches are the same whatever the parts.
std::vector<PicturePart> parts_of(const PictureRun& run);

/// Behind the last part, from `first` on, whose prompts are encoded with those of `first`: their
/// features are in memory together, and the text encoders are loaded once for all of them.
std::size_t end_of_prompts_at_once(const std::vector<PicturePart>& parts, std::size_t first);

/// What parts first to end - 1 draw.
PictureRequest request_of(const std::vector<PicturePart>& parts, std::size_t first,
                          std::size_t end);

}  // namespace rtlynx::cli
