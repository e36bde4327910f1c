// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mini/scenes/vocabulary.h"

namespace rtlynx {

/// How scenes of the training split are drawn.
struct TrainingScenes {
  std::uint64_t seed = 0;
  double caption_dropout = 0.1;  ///< share of scenes without caption
  bool leaves = false;           ///< dead leaves behind the items
};

/// Draws scene `index` of a run, and returns the tokens of its caption, without padding. `rgb` is
/// [kSceneSide, kSceneSide, 3], row-major. Depends on the arguments alone. Thread-safe.
std::vector<int> draw_training_scene(const TrainingScenes& scenes, std::uint64_t index,
                                     const Vocabulary& vocabulary, std::span<std::uint8_t> rgb);

}  // namespace rtlynx
