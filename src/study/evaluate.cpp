// SPDX-License-Identifier: Apache-2.0
#include "study/evaluate.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>

#include "base/error.h"
#include "compensate/second_moment.h"
#include "io/text.h"
#include "models/revision.h"
#include "pipeline/pixels.h"
#include "rtlynx/version.h"
#include "study/kept_results.h"
#include "study/kept_work.h"
#include "study/method_pictures.h"
#include "study/method_scores.h"
#include "study/methods.h"
#include "study/picture_features.h"
#include "study/shared_calibrations.h"

namespace rtlynx {
namespace {

using Json = nlohmann::ordered_json;

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

int velocity_prompts(const EvaluateOptions& options) {
  return std::min(options.velocity_prompts, options.prompts);
}

// Every step is measured of a prompt, and every prompt at a step.
int velocity_stride(const EvaluateOptions& options) {
  return std::max(1, std::min({options.velocity_stride, velocity_prompts(options), options.steps}));
}

Json describe(const Pipeline& pipeline, const EvaluateOptions& options,
              const std::optional<Lpips>& lpips) {
  Json run = {{"model", pipeline.name},
              {"rtlynx", version()},
              {"parameters", pipeline.parameter_count()},
              {"prompts", options.prompts},
              {"velocity_prompts", velocity_prompts(options)},
              {"velocity_stride", velocity_stride(options)},
              {"prompt_seed", options.seed},
              {"steps", options.steps},
              {"guidance", options.guidance},
              {"device", pipeline.device_name()},
              {"dtype", pipeline.dtype_name()},
              {"frechet_features", kPictureFeatures}};
  if (pipeline.leaves) run["scene_background"] = "dead leaves";
  if (lpips) run["lpips_network"] = lpips->network();
  if (options.noise_floor) run["noise_floor_batch"] = noise_floor_batch(pipeline, options.batch);
  return run;
}

Json describe_calibration(const EvaluateOptions& options) {
  const CalibrationRun& run = options.calibration;
  return {{"prompts", run.prompts},
          {"seed", run.seed},
          {"steps", run.steps},
          {"rows", options.calibration_rows},
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
  settings["calibration_rows"] = options.calibration_rows;
  settings["calibration_guidance"] = options.calibration.guidance;
  settings["calibration_batch"] = options.calibration.batch;
  if (!options.pictures.empty()) {
    settings["pictures"] = path_text(std::filesystem::absolute(options.pictures));
    settings["kept_pictures"] = options.kept_pictures;
  }
  return settings;
}

constexpr const char* kInputs = "the inputs of layers";

std::string key_of(const Contender& contender) { return "method " + contender.key; }

/// One evaluation: what all methods share, then method after method.
class Evaluation {
 public:
  Evaluation(Pipeline& pipeline, const EvaluateOptions& options, EvaluateCallback on_progress,
             std::optional<Lpips> lpips, const Json& settings)
      : pipeline_(pipeline),
        options_(options),
        on_progress_(std::move(on_progress)),
        contenders_(choose_methods(pipeline, options)),
        references_{.dense = {}, .scene_features = {}, .lpips = std::move(lpips)},
        results_(options.results, settings,
                 options.restart ? KeptResults::Begin::anew : KeptResults::Begin::go_on),
        work_(work_folder(options.results), settings),
        suite_(make_caption_suite(options.prompts, options.seed, pipeline.leaves)),
        request_{.prompts = {}, .seeds = {}, .steps = options.steps, .guidance = options.guidance},
        inputs_{.run = options.calibration, .moments = {}} {
    inputs_.statistics = [this](const std::string& sums) { return work_.sums_file(sums); };
    inputs_.on_calibrate = [this](const CalibrateProgress& at) {
      const std::string pass = std::to_string(at.pass) + "/" + std::to_string(at.passes);
      return !on_progress_ || on_progress_("calibrate, pass " + pass, at.finished, at.steps);
    };
  }

  /// Throws for what the model cannot be asked.
  void check() const {
    for (const auto& [method, key] : contenders_) {
      method.check(pipeline_);
      if (method.e4m3) check_e4m3(pipeline_.options(), method.name);
    }
    check_draws_scenes(pipeline_);
    pipeline_.text_encoder->encode(suite_.captions);
    if (any_learns(contenders_)) {
      pipeline_.text_encoder->encode(calibration_request(options_.calibration).prompts);
    }
  }

  /// Of what is not finished yet.
  EvaluationPlan plan() const {
    const std::vector<Contender> waiting = unfinished();
    if (waiting.empty()) return {};
    const std::int64_t drawn = std::int64_t{options_.prompts} * options_.steps;
    const std::int64_t velocities = recorder().picture_steps();
    // Dense pictures are drawn for all; their velocities are recorded meanwhile.
    const bool dense_is_left = waiting.front().key == contenders_.front().key;
    const std::int64_t others = std::ssize(waiting) - (dense_is_left ? 1 : 0);
    return {.methods = std::ssize(waiting),
            .picture_steps = drawn + others * (drawn + velocities) +
                             picture_steps(calibrations_of(waiting).options),
            .noise_floor_steps = options_.noise_floor ? std::ssize(waiting) * drawn : 0};
  }

  Json run() {
    if (options_.restart) work_.remove();
    restore_dense(pipeline_);
    const std::vector<Contender> waiting = unfinished();
    if (!waiting.empty()) {
      if (any_learns(waiting)) learn(waiting);
      make_references();
    }
    for (const Contender& contender : waiting) {
      results_.refresh();
      if (results_.find(key_of(contender))) continue;  // another process was faster
      if (contender.method.kind != Method::Kind::dense && !has_dense()) draw_dense();
      results_.add(key_of(contender), measure(contender.method));
    }
    work_.remove();
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

  std::vector<Contender> unfinished() const {
    std::vector<Contender> waiting;
    std::copy_if(contenders_.begin(), contenders_.end(), std::back_inserter(waiting),
                 [&](const Contender& contender) { return !results_.find(key_of(contender)); });
    return waiting;
  }

  SharedCalibrations calibrations_of(const std::vector<Contender>& waiting) const {
    const auto methods = [](const std::vector<Contender>& contenders) {
      std::vector<Method> list;
      for (const Contender& one : contenders) list.push_back(one.method);
      return list;
    };
    return share_calibrations(methods(waiting), methods(contenders_), options_.calibration,
                              options_.calibration_rows);
  }

  // The pictures are drawn once for all methods.
  void learn(const std::vector<Contender>& waiting) {
    SharedCalibrations all = calibrations_of(waiting);
    for (std::size_t i = 0; i < all.sums.size(); ++i) {
      all.options[i].statistics = work_.sums_file(all.sums[i]);
    }
    std::optional<std::vector<CalibrationSums>> sums =
        collect_sums(pipeline_, all.options, inputs_.on_calibrate);
    if (!sums) throw Stopped();
    for (std::size_t i = 0; i < all.sums.size(); ++i) {
      check_finite((*sums)[i].moments);
      if (i == all.of_inputs) inputs_.moments = (*sums)[i].moments;
      inputs_.sums->emplace(all.sums[i], std::move((*sums)[i]));
    }
    if (!results_.find(kInputs)) results_.add(kInputs, describe(inputs_.moments));
  }

  AccuracyRun draw(const std::string& method, const BatchVelocityCallback& on_velocity = {}) {
    return measure_caption_accuracy(
        pipeline_, suite_, request_, options_.batch,
        [&](int finished) { progress(method + ": pictures", finished, options_.prompts); },
        on_velocity);
  }

  // What all methods are held against, but for what is not drawn yet.
  void make_references() {
    std::vector<Image> scenes;
    for (const Scene& scene : suite_.scenes) scenes.push_back(render(scene));
    references_.scene_features = picture_features(scenes);
    if (auto kept = work_.dense_pictures()) references_.dense = std::move(*kept);
    if (measures_velocity()) trajectory_ = work_.trajectory(pipeline_.options().device());
  }

  TrajectoryRecorder recorder() const {
    return {static_cast<std::size_t>(velocity_prompts(options_)), options_.steps,
            velocity_stride(options_)};
  }

  bool measures_velocity() const { return velocity_prompts(options_) > 0; }

  bool has_dense() const {
    return !references_.dense.empty() && (trajectory_ || !measures_velocity());
  }

  // The model is dense. Its pictures, and the trajectory that led to them.
  AccuracyRun draw_dense() {
    TrajectoryRecorder trajectory = recorder();
    AccuracyRun run = draw("dense", [&](const auto&... step) { trajectory.add(step...); });
    references_.dense = run.images;
    if (measures_velocity()) {
      trajectory_ = trajectory.take();
      work_.keep(*trajectory_);
    }
    work_.keep_dense_pictures(run.images);
    return run;
  }

  // Of the first `count` captions, as measure_caption_accuracy draws them.
  GenerateRequest request_for(int count) const {
    GenerateRequest request = request_;
    request.width = request.height = pipeline_.trained_size;
    for (int i = 0; i < count; ++i) {
      request.prompts.push_back(suite_.captions[static_cast<std::size_t>(i)]);
      request.seeds.push_back(static_cast<std::uint64_t>(i));
    }
    return request;
  }

  Json measure(const Method& method) {
    const bool dense = method.kind == Method::Kind::dense;
    progress(method.name + ": prepare", 0, 1);
    Json entry = {{"name", method.name},
                  {"kind", to_string(method.kind)},
                  {"description", method.description},
                  {"relative_cost", method.prepare(pipeline_, inputs_)}};
    AccuracyRun run;
    if (dense) run = draw_dense();
    if (trajectory_) entry.update(to_json(velocity_error(method)));
    if (!dense) run = draw(method.name);
    std::vector<Image> again;
    if (options_.noise_floor) again = draw_rounded_otherwise(method.name);
    restore_dense(pipeline_);
    entry.update(score_pictures(run, references_));
    if (options_.noise_floor) entry.update(score_noise_floor(run.images, again));
    write_method_pictures(options_.pictures, method.name, run.images, options_.kept_pictures);
    return entry;
  }

  VelocityError velocity_error(const Method& method) {
    if (method.kind == Method::Kind::dense) return no_error(*trajectory_);
    const auto records = static_cast<std::int64_t>(trajectory_->records.size());
    return measure_velocity_error(pipeline_, *trajectory_, [&](std::size_t finished) {
      progress(method.name + ": velocity", static_cast<std::int64_t>(finished), records);
    });
  }

  std::vector<Image> draw_rounded_otherwise(const std::string& method) {
    std::vector<Image> images;
    const int batch = noise_floor_batch(pipeline_, options_.batch);
    for (const GenerateRequest& part : split_request(request_for(options_.prompts), batch)) {
      for (Image& image : images_from_pixels(pipeline_.generate_pixels(part))) {
        images.push_back(std::move(image));
      }
      progress(method + ": noise floor", std::ssize(images), options_.prompts);
    }
    return images;
  }

  Json report() const {
    Json report = describe(pipeline_, options_, references_.lpips);
    if (any_learns(contenders_)) {
      report["calibration"] = describe_calibration(options_);
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
  KeptWork work_;
  CaptionSuite suite_;
  GenerateRequest request_;
  MethodInputs inputs_;
  std::optional<DenseTrajectory> trajectory_;
};

}  // namespace

std::filesystem::path work_folder(const std::filesystem::path& results) {
  if (results.empty()) return {};
  std::filesystem::path folder = results;
  return folder += ".work";
}

int noise_floor_batch(const Pipeline& pipeline, int batch) {
  return other_batch(pipeline.pictures_at_once(batch), batch);
}

std::optional<Json> evaluate_methods(Pipeline& pipeline, const EvaluateOptions& options,
                                     const EvaluateCallback& on_progress,
                                     const PlanCallback& on_plan) {
  if (options.prompts < 1) {
    throw UsageError("evaluate: required at least one prompt, got " +
                     std::to_string(options.prompts));
  }
  const std::optional<Lpips> lpips = read_lpips(options.lpips);
  Evaluation evaluation(pipeline, options, on_progress, lpips,
                        settings_of(pipeline, options, lpips));
  evaluation.check();
  if (on_plan) on_plan(evaluation.plan());
  try {
    return evaluation.run();
  } catch (const Stopped&) {
    restore_dense(pipeline);
    return std::nullopt;
  }
}

}  // namespace rtlynx
