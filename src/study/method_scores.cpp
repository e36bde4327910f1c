// SPDX-License-Identifier: Apache-2.0
#include "study/method_scores.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "base/error.h"
#include "io/json.h"
#include "layers/finite.h"
#include "metrics/bootstrap.h"
#include "metrics/high_frequency_error.h"
#include "metrics/psnr.h"
#include "metrics/ssim.h"
#include "study/frechet_distance.h"
#include "study/picture_features.h"

namespace rtlynx {
namespace {

using Json = nlohmann::ordered_json;

Json as_json(const Interval& interval) {
  return Json::array({number_or_null(interval.low), number_or_null(interval.high)});
}

// Mean and interval; null without any. Every value is a picture's.
void add_mean(Json& scores, const std::string& name, const std::vector<double>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    require_finite(values[i], name + " of picture " + std::to_string(i));
  }
  if (values.empty()) {
    scores[name] = nullptr;
    scores[name + "_interval"] = nullptr;
    return;
  }
  scores[name] =
      std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  scores[name + "_interval"] = as_json(bootstrap_mean(values));
}

// Equal pictures have no finite PSNR: the mean is over those that differ.
std::vector<double> of_pictures_that_differ(std::vector<double> decibels) {
  std::erase(decibels, std::numeric_limits<double>::infinity());
  return decibels;
}

}  // namespace

Json to_json(const VelocityError& error) {
  Json by_step = Json::array();
  for (const SquaredError& step : error.by_step) {
    by_step.push_back(step.whole > 0 ? number_or_null(step.relative()) : Json());
  }
  const Interval interval =
      bootstrap_interval(error.by_prompt.size(),
                         [&](std::span<const std::size_t> drawn) { return error.relative(drawn); });
  return {{"velocity_error", number_or_null(error.relative())},
          {"velocity_error_interval", as_json(interval)},
          {"velocity_error_by_step", std::move(by_step)}};
}

Json score_against_dense(const std::vector<Image>& pictures, const std::vector<Image>& dense,
                         const std::optional<Lpips>& lpips) {
  require(pictures.size() == dense.size(), "score_against_dense",
          std::to_string(dense.size()) + " pictures, as of the dense model",
          std::to_string(pictures.size()));
  std::vector<double> decibels, similarities, detail;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    decibels.push_back(psnr(dense[i], pictures[i]));
    similarities.push_back(ssim(dense[i], pictures[i]));
    detail.push_back(high_frequency_error(dense[i], pictures[i]));
  }
  Json scores;
  add_mean(scores, "psnr", of_pictures_that_differ(decibels));
  add_mean(scores, "ssim", similarities);
  add_mean(scores, "high_frequency_error", detail);
  if (lpips) add_mean(scores, "lpips", lpips->distances(dense, pictures));
  return scores;
}

Json score_pictures(const AccuracyRun& run, const PictureReferences& references) {
  Json scores = score_against_dense(run.images, references.dense, references.lpips);
  scores["frechet_distance"] = nullptr;
  if (run.images.size() >= 2) {
    const double distance =
        frechet_distance(references.scene_features, picture_features(run.images));
    require_finite(distance, "frechet_distance");
    scores["frechet_distance"] = distance;
  }
  if (run.scores.empty()) return scores;
  std::vector<double> right;
  for (const CaptionScore& score : run.scores) right.push_back(score.shape_color_position.rate());
  add_mean(scores, "caption_accuracy", right);
  scores["captions"] = to_json(run.score);
  return scores;
}

Json score_noise_floor(const std::vector<Image>& pictures, const std::vector<Image>& again) {
  require(pictures.size() == again.size(), "score_noise_floor",
          std::to_string(pictures.size()) + " pictures", std::to_string(again.size()));
  std::vector<double> decibels;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    decibels.push_back(psnr(pictures[i], again[i]));
  }
  const auto equal =
      std::count(decibels.begin(), decibels.end(), std::numeric_limits<double>::infinity());
  Json scores;
  add_mean(scores, "noise_floor", of_pictures_that_differ(decibels));
  scores["noise_floor_equal"] =
      static_cast<double>(equal) / static_cast<double>(std::max<std::size_t>(1, decibels.size()));
  return scores;
}

}  // namespace rtlynx
