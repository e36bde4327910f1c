// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/training_scene.h"

#include "base/rng.h"
#include "mini/scenes/caption.h"
#include "mini/scenes/scene.h"

namespace rtlynx {

std::vector<int> draw_training_scene(const TrainingScenes& scenes, std::uint64_t index,
                                     const Vocabulary& vocabulary, std::span<std::uint8_t> rgb) {
  Rng rng(mixed_seed(scenes.seed, index));
  Scene scene = sample_scene(rng, Split::train);
  if (scenes.leaves) scene.leaves = mixed_seed(~scenes.seed, index);
  render(scene, kSceneSide, rgb);
  if (rng.chance(static_cast<float>(scenes.caption_dropout))) return {};
  return vocabulary.encode(caption(scene, rng, CaptionDropout{}));
}

}  // namespace rtlynx
