// SPDX-License-Identifier: Apache-2.0
#include "study/evaluate.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "compensate/second_moment.h"
#include "rtlynx/version.h"
#include "study/input_moments.h"
#include "study/method_scores.h"
#include "study/methods.h"
#include "study/picture_features.h"

namespace rtlynx {
namespace {

using Json = nlohmann::ordered_json;

// Dense first, each once.
std::vector<Method> choose_methods(Pipeline& pipeline, const EvaluateOptions& options) {
  std::vector<Method> methods = {find_method("dense")};
  const auto is_known = [&](const std::string& name) {
    return std::any_of(methods.begin(), methods.end(),
                       [&](const Method& known) { return known.name == name; });
  };
  for (const std::string& name : options.methods) {
    if (!is_known(name)) methods.push_back(find_method(name));
  }
  for (const auto& file : options.compensations) {
    Method method = method_from_file(pipeline, file);
    if (is_known(method.name)) {
      throw UsageError("compensation: required files with names of their own, got " + method.name +
                       " twice");
    }
    methods.push_back(std::move(method));
  }
  return methods;
}

Json describe(const Pipeline& pipeline, const EvaluateOptions& options) {
  return {{"model", pipeline.name},
          {"rtlynx", version()},
          {"parameters", pipeline.parameter_count()},
          {"prompts", options.prompts},
          {"velocity_prompts", std::min(options.velocity_prompts, options.prompts)},
          {"prompt_seed", options.seed},
          {"steps", options.steps},
          {"guidance", options.guidance},
          {"device", pipeline.device_name()},
          {"dtype", pipeline.dtype_name()},
          {"frechet_features", kPictureFeatures}};
}

Json describe(const CalibrationRun& run) {
  return {{"prompts", run.prompts},
          {"seed", run.seed},
          {"steps", run.steps},
          {"guidance", run.guidance}};
}

Json describe(const GroupMoments& moments) {
  Json inputs = Json::array();
  for (const auto& [name, sums] : moments) {
    const torch::Tensor mean = sums.second_moment();
    inputs.push_back({{"name", name},
                      {"channels", sums.channels()},
                      {"tokens", sums.tokens},
                      {"effective_rank", effective_rank(mean)},
                      {"participation_ratio", participation_ratio(mean)}});
  }
  return inputs;
}

/// One evaluation: what all methods share, then method after method.
class Evaluation {
 public:
  Evaluation(Pipeline& pipeline, const EvaluateOptions& options, EvaluateCallback on_progress,
             PictureCallback on_picture)
      : pipeline_(pipeline),
        options_(options),
        on_progress_(std::move(on_progress)),
        on_picture_(std::move(on_picture)),
        suite_(make_caption_suite(options.prompts, options.seed)),
        request_{.prompts = {}, .seeds = {}, .steps = options.steps, .guidance = options.guidance},
        inputs_{.run = options.calibration, .moments = {}} {}

  Json run() {
    const std::vector<Method> methods = choose_methods(pipeline_, options_);
    Json report = describe(pipeline_, options_);
    restore_dense(pipeline_);
    if (std::any_of(methods.begin(), methods.end(),
                    [](const Method& method) { return method.reads_moments; })) {
      inputs_.moments = collect_input_moments(pipeline_, inputs_.run, [&](int finished, int steps) {
        progress("calibrate", finished, steps);
      });
      report["calibration"] = describe(inputs_.run);
      report["inputs"] = describe(inputs_.moments);
    }
    record_dense();
    report["methods"] = Json::array();
    for (const Method& method : methods) report["methods"].push_back(measure(method));
    return report;
  }

 private:
  void progress(const std::string& stage, std::int64_t finished, std::int64_t all) const {
    if (on_progress_) on_progress_(stage, finished, all);
  }

  void record_dense() {
    std::vector<Image> scenes;
    for (const Scene& scene : suite_.scenes) scenes.push_back(render(scene));
    references_.scene_features = picture_features(scenes);
    const int count = std::min(options_.velocity_prompts, options_.prompts);
    if (count == 0) return;
    GenerateRequest request = request_;
    request.width = request.height = pipeline_.trained_size;
    for (int i = 0; i < count; ++i) {
      request.prompts.push_back(suite_.captions[static_cast<std::size_t>(i)]);
      request.seeds.push_back(static_cast<std::uint64_t>(i));
    }
    trajectory_ = record_trajectory(
        pipeline_, request, options_.batch,
        [&](int finished, int steps) { progress("dense trajectory", finished, steps); });
  }

  Json measure(const Method& method) {
    progress(method.name + ": prepare", 0, 1);
    Json entry = {{"name", method.name},
                  {"kind", to_string(method.kind)},
                  {"description", method.description},
                  {"relative_cost", method.prepare(pipeline_, inputs_)}};
    if (trajectory_) {
      const auto records = static_cast<std::int64_t>(trajectory_->records.size());
      const VelocityError error =
          measure_velocity_error(pipeline_, *trajectory_, [&](std::size_t finished) {
            progress(method.name + ": velocity", static_cast<std::int64_t>(finished), records);
          });
      entry.update(to_json(error));
    }
    const AccuracyRun run = measure_caption_accuracy(
        pipeline_, suite_, request_, options_.batch,
        [&](int finished) { progress(method.name + ": pictures", finished, options_.prompts); });
    restore_dense(pipeline_);
    if (references_.dense.empty()) references_.dense = run.images;
    entry.update(score_pictures(run, references_));
    if (on_picture_) {
      for (std::size_t i = 0; i < run.images.size(); ++i)
        on_picture_(method.name, i, run.images[i]);
    }
    return entry;
  }

  Pipeline& pipeline_;
  const EvaluateOptions& options_;
  EvaluateCallback on_progress_;
  PictureCallback on_picture_;
  CaptionSuite suite_;
  GenerateRequest request_;
  MethodInputs inputs_;
  PictureReferences references_;
  std::optional<DenseTrajectory> trajectory_;
};

}  // namespace

Json evaluate_methods(Pipeline& pipeline, const EvaluateOptions& options,
                      const EvaluateCallback& on_progress, const PictureCallback& on_picture) {
  if (options.prompts < 1) {
    throw UsageError("evaluate: required at least one prompt, got " +
                     std::to_string(options.prompts));
  }
  return Evaluation(pipeline, options, on_progress, on_picture).run();
}

}  // namespace rtlynx
