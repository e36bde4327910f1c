// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "base/rng.h"
#include "mini/scenes/scene.h"
#include "mini/scenes/vocabulary.h"

namespace rtlynx {

/// Says everything about the scene but jitter and glow, at most kMaxTokens tokens: "two small
/// striped red circles top left, the word cat in green bottom right on navy".
std::string caption(const Scene& scene);

/// How often a caption leaves something unsaid, so that short prompts work too. The first three are
/// drawn for each item by itself.
struct CaptionDropout {
  float size = 0.3f;
  float texture = 0.1f;
  float position = 0.1f;
  float background = 0.3f;
};

std::string caption(const Scene& scene, Rng& rng, const CaptionDropout& dropout);

/// The vocabulary of these captions, with everyday aliases.
const Vocabulary& scene_vocabulary();

}  // namespace rtlynx
