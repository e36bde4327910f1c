// SPDX-License-Identifier: Apache-2.0
#include "study/evaluate.h"

#include <algorithm>
#include <iomanip>
#include <optional>
#include <sstream>

#include "base/error.h"
#include "compensate/second_moment.h"
#include "io/png.h"
#include "models/revision.h"
#include "rtlynx/version.h"
#include "study/input_moments.h"
#include "study/kept_results.h"
#include "study/method_scores.h"
#include "study/methods.h"
#include "study/picture_features.h"

namespace rtlynx {
namespace {

using Json = nlohmann::ordered_json;

/// Thrown out of the work at hand when the caller wants no more of it.
struct Stopped {};

/// A method and the name that its result is kept under.
struct Contender {
  Method method;
  std::string key;
};

// Dense first, each once. The same name may stand for another file tomorrow.
std::vector<Contender> choose_methods(Pipeline& pipeline, const EvaluateOptions& options) {
  std::vector<Contender> contenders;
  const auto is_known = [&](const std::string& name) {
    return std::any_of(contenders.begin(), contenders.end(),
                       [&](const Contender& known) { return known.method.name == name; });
  };
  const auto add = [&](const Method& method, const std::string& key) {
    contenders.push_back({.method = method, .key = key});
  };
  add(find_method("dense"), "dense");
  for (const std::string& name : options.methods) {
    if (!is_known(name)) add(find_method(name), name);
  }
  for (const auto& file : options.compensations) {
    const Method method = method_from_file(pipeline, file);
    if (is_known(method.name)) {
      throw UsageError("compensation: required files with names of their own, got " + method.name +
                       " twice");
    }
    add(method, method.name + " of file " + file_revision(file));
  }
  return contenders;
}

Json describe(const Pipeline& pipeline, const EvaluateOptions& options,
              const std::optional<Lpips>& lpips) {
  Json run = {{"model", pipeline.name},
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
  if (lpips) run["lpips_network"] = lpips->network();
  return run;
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

// Everything that decides the results of a method, and which of its pictures were written.
Json settings_of(const Pipeline& pipeline, const EvaluateOptions& options,
                 const std::optional<Lpips>& lpips) {
  Json settings = describe(pipeline, options, lpips);
  if (lpips) settings["lpips_revision"] = file_revision(options.lpips);
  settings["transformer_revision"] = weights_revision(*pipeline.transformer);
  settings["text_encoder_revision"] = weights_revision(*pipeline.text_encoder);
  settings["batch"] = options.batch;
  settings["calibration_prompts"] = options.calibration.prompts;
  settings["calibration_seed"] = options.calibration.seed;
  settings["calibration_steps"] = options.calibration.steps;
  settings["calibration_guidance"] = options.calibration.guidance;
  settings["calibration_batch"] = options.calibration.batch;
  if (!options.pictures.empty()) {
    settings["pictures"] = std::filesystem::absolute(options.pictures).string();
    settings["kept_pictures"] = options.kept_pictures;
  }
  return settings;
}

std::optional<Lpips> read_lpips(const std::filesystem::path& path) {
  if (path.empty()) return std::nullopt;
  return Lpips::read(path);
}

constexpr const char* kInputs = "the inputs of layers";

std::string key_of(const Contender& contender) { return "method " + contender.key; }

/// One evaluation: what all methods share, then method after method.
class Evaluation {
 public:
  Evaluation(Pipeline& pipeline, const EvaluateOptions& options, EvaluateCallback on_progress)
      : pipeline_(pipeline),
        options_(options),
        on_progress_(std::move(on_progress)),
        contenders_(choose_methods(pipeline, options)),
        references_{.dense = {}, .scene_features = {}, .lpips = read_lpips(options.lpips)},
        results_(options.results, settings_of(pipeline, options, references_.lpips)),
        suite_(make_caption_suite(options.prompts, options.seed)),
        request_{.prompts = {}, .seeds = {}, .steps = options.steps, .guidance = options.guidance},
        inputs_{.run = options.calibration, .moments = {}} {}

  Json run() {
    restore_dense(pipeline_);
    std::vector<Contender> waiting;
    std::copy_if(contenders_.begin(), contenders_.end(), std::back_inserter(waiting),
                 [&](const Contender& contender) { return !results_.find(key_of(contender)); });
    if (!waiting.empty()) {
      if (any_learns(waiting)) collect_inputs();
      record_dense(waiting);
    }
    for (const Contender& contender : waiting) {
      results_.add(key_of(contender), measure(contender.method));
    }
    return report();
  }

 private:
  static bool any_learns(const std::vector<Contender>& contenders) {
    return std::any_of(contenders.begin(), contenders.end(),
                       [](const Contender& contender) { return contender.method.reads_moments; });
  }

  void progress(const std::string& stage, std::int64_t finished, std::int64_t all) const {
    if (on_progress_ && !on_progress_(stage, finished, all)) throw Stopped();
  }

  void collect_inputs() {
    inputs_.moments = collect_input_moments(pipeline_, inputs_.run, [&](int finished, int steps) {
      progress("calibrate", finished, steps);
    });
    if (!results_.find(kInputs)) results_.add(kInputs, describe(inputs_.moments));
  }

  AccuracyRun draw(const std::string& method) {
    return measure_caption_accuracy(pipeline_, suite_, request_, options_.batch, [&](int finished) {
      progress(method + ": pictures", finished, options_.prompts);
    });
  }

  // What the methods that wait are held against. Dense itself, if it waits, draws its pictures.
  void record_dense(const std::vector<Contender>& waiting) {
    std::vector<Image> scenes;
    for (const Scene& scene : suite_.scenes) scenes.push_back(render(scene));
    references_.scene_features = picture_features(scenes);
    record_trajectory_of_dense();
    const std::string& dense = contenders_.front().method.name;
    if (waiting.front().method.name != dense) references_.dense = draw(dense).images;
  }

  void record_trajectory_of_dense() {
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
    const AccuracyRun run = draw(method.name);
    restore_dense(pipeline_);
    if (references_.dense.empty()) references_.dense = run.images;
    entry.update(score_pictures(run, references_));
    write_pictures(method.name, run.images);
    return entry;
  }

  void write_pictures(const std::string& method, const std::vector<Image>& images) const {
    if (options_.pictures.empty()) return;
    const auto count = std::min(images.size(), static_cast<std::size_t>(options_.kept_pictures));
    for (std::size_t i = 0; i < count; ++i) {
      std::ostringstream name;
      name << method << '-' << std::setfill('0') << std::setw(4) << i << ".png";
      write_png(options_.pictures / name.str(), images[i]);
    }
  }

  Json report() const {
    Json report = describe(pipeline_, options_, references_.lpips);
    if (any_learns(contenders_)) {
      report["calibration"] = describe(options_.calibration);
      report["inputs"] = *results_.find(kInputs);
    }
    report["methods"] = Json::array();
    for (const Contender& contender : contenders_) {
      report["methods"].push_back(*results_.find(key_of(contender)));
    }
    return report;
  }

  Pipeline& pipeline_;
  const EvaluateOptions& options_;
  EvaluateCallback on_progress_;
  std::vector<Contender> contenders_;
  PictureReferences references_;
  KeptResults results_;
  CaptionSuite suite_;
  GenerateRequest request_;
  MethodInputs inputs_;
  std::optional<DenseTrajectory> trajectory_;
};

}  // namespace

std::optional<Json> evaluate_methods(Pipeline& pipeline, const EvaluateOptions& options,
                                     const EvaluateCallback& on_progress) {
  if (options.prompts < 1) {
    throw UsageError("evaluate: required at least one prompt, got " +
                     std::to_string(options.prompts));
  }
  try {
    return Evaluation(pipeline, options, on_progress).run();
  } catch (const Stopped&) {
    restore_dense(pipeline);
    return std::nullopt;
  }
}

}  // namespace rtlynx
