// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "mini/caption_accuracy.h"
#include "study/lpips.h"
#include "study/velocity_error.h"

namespace rtlynx {

/// What the pictures of a method are held against: those of the dense model from the same noise,
/// and the scenes that the captions describe, as the drawing program draws them.
struct PictureReferences {
  std::vector<Image> dense;
  torch::Tensor scene_features;  // picture_features [n, F] of the scenes
  std::optional<Lpips> lpips;    ///< where weights are given
};

/// {"velocity_error": ..., "velocity_error_interval": [low, high], "velocity_error_by_step":
/// [...]}: the interval is a bootstrap over prompts; a step that was measured of no prompt is null.
nlohmann::ordered_json to_json(const VelocityError& error);

/// psnr (dB, over pictures that differ), ssim, high_frequency_error and, with weights, lpips to the
/// dense model's pictures from the same noise, each a mean over pictures with its "_interval" (95
/// %, bootstrap over pictures). What cannot be had, such as the PSNR of equal pictures, is null.
nlohmann::ordered_json score_against_dense(const std::vector<Image>& pictures,
                                           const std::vector<Image>& dense,
                                           const std::optional<Lpips>& lpips);

/// The same; frechet_distance to the scenes; caption_accuracy (shape, colour and position right,
/// nothing else there), a mean as well; and captions, the shares right of every attribute.
nlohmann::ordered_json score_pictures(const AccuracyRun& run, const PictureReferences& references);

/// noise_floor: the PSNR of a method's pictures against `again`, the same with another rounding,
/// over those that differ, with its interval; noise_floor_equal: the share that does not differ.
nlohmann::ordered_json score_noise_floor(const std::vector<Image>& pictures,
                                         const std::vector<Image>& again);

}  // namespace rtlynx
