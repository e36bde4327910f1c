// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mini/drawn_batch.h"
#include "mini/scenes/checker.h"
#include "mini/scenes/scene.h"

namespace rtlynx {

/// A fixed list of held-out scenes and the captions that ask for them in full.
struct CaptionSuite {
  std::vector<Scene> scenes;
  std::vector<std::string> captions;
};

/// The first `count` scenes of the held-out split under `seed`; `leaves` adds dead leaves behind
/// the items.
CaptionSuite make_caption_suite(int count, std::uint64_t seed, bool leaves = false);

struct AccuracyRun {
  CaptionScore score;                ///< summed over the captions
  std::vector<CaptionScore> scores;  ///< one per caption; none if leaves lie behind the items
  std::vector<Image> images;         ///< one per caption
};

/// Throws Error unless the model draws pictures of the size that scenes have.
void check_draws_scenes(const Pipeline& pipeline);

/// Draws every caption of the suite (image i with seed i) and reads the pictures back. On the CPU
/// as many are drawn at a time as torch has threads. `on_image` is called with the number of
/// finished images, `on_velocity` with every step of every batch; never both, nor one twice, at a
/// time.
AccuracyRun measure_caption_accuracy(Pipeline& pipeline, const CaptionSuite& suite,
                                     GenerateRequest request, int batch,
                                     const std::function<void(int)>& on_image = {},
                                     const BatchVelocityCallback& on_velocity = {});

/// {"shape_color_position": ..., "shape": ..., ...}: shares right, between 0 and 1.
nlohmann::ordered_json to_json(const CaptionScore& score);

}  // namespace rtlynx
