// SPDX-License-Identifier: Apache-2.0
#include "study/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "metrics/psnr.h"
#include "metrics/ssim.h"
#include "models/recipe.h"
#include "rtlynx/version.h"
#include "study/caption_accuracy.h"

namespace rtlynx {
namespace {

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

void add_paired_metrics(nlohmann::ordered_json& entry, const std::vector<Image>& dense,
                        const std::vector<Image>& images) {
  std::vector<double> decibels, similarities;
  for (std::size_t i = 0; i < images.size(); ++i) {
    const double value = psnr(dense[i], images[i]);
    if (std::isfinite(value)) decibels.push_back(value);
    similarities.push_back(ssim(dense[i], images[i]));
  }
  entry["psnr_to_dense"] =
      decibels.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(mean(decibels));
  entry["ssim_to_dense"] = mean(similarities);
}

}  // namespace

nlohmann::ordered_json evaluate_modes(Pipeline& pipeline, const EvaluateOptions& options,
                                      const EvaluateCallback& on_image) {
  const CaptionSuite suite = make_caption_suite(options.prompts, options.seed);
  const GenerateRequest request{
      .prompts = {}, .seeds = {}, .steps = options.steps, .guidance = options.guidance};
  nlohmann::ordered_json report = {{"model", pipeline.name},
                                   {"rtlynx", version()},
                                   {"parameters", pipeline.parameter_count()},
                                   {"prompts", options.prompts},
                                   {"prompt_seed", options.seed},
                                   {"steps", options.steps},
                                   {"guidance", options.guidance},
                                   {"device", pipeline.device_name()},
                                   {"dtype", pipeline.dtype_name()}};
  std::vector<std::string> order = options.modes;
  std::stable_partition(order.begin(), order.end(),
                        [](const std::string& mode) { return mode == "dense"; });
  nlohmann::ordered_json modes;
  std::vector<Image> dense;
  for (const auto& name : order) {
    apply_paper_flux_recipe(*pipeline.transformer, linear_mode_from_string(name));
    const AccuracyRun run =
        measure_caption_accuracy(pipeline, suite, request, options.batch, [&](int finished) {
          if (on_image) on_image(name, finished);
        });
    nlohmann::ordered_json entry = to_json(run.score);
    report["caption_accuracy_" + name] = entry["shape_color_position"];
    if (name == "dense") {
      dense = run.images;
    } else if (!dense.empty()) {
      add_paired_metrics(entry, dense, run.images);
    }
    modes[name] = std::move(entry);
  }
  report["modes"] = std::move(modes);
  return report;
}

}  // namespace rtlynx
