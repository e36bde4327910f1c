// SPDX-License-Identifier: Apache-2.0
#include "study/evaluate_prompts.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/word_hash.h"
#include "io/text.h"
#include "models/recipe.h"
#include "models/revision.h"
#include "models/text_to_image/parts.h"
#include "rtlynx/version.h"
#include "study/compensation_cost.h"
#include "study/kept_results.h"
#include "study/kept_work.h"
#include "study/method_pictures.h"
#include "study/method_scores.h"
#include "study/methods.h"

namespace rtlynx {
namespace {

using Json = nlohmann::ordered_json;

/// A method and the name that its result is kept under.
struct ComparedMethod {
  MethodFacts facts;
  LayerCosts costs;  // of the layers that it names
  std::string key;
  std::function<void(torch::nn::Module& transformer)> set_layers;  // of dense ones
};

ComparedMethod compared_mode(const Method& method, const LayerSetters& setters,
                             const std::vector<LayerGroup>& groups) {
  if (!method.mode) {
    throw UsageError("--methods: required dense, naive or norm with this model, got " +
                     method.name +
                     ", which has to learn first: rtlynx calibrate --model ... -o FILE, then "
                     "--compensation FILE");
  }
  return {.facts = {.name = method.name, .kind = method.kind, .description = method.description},
          .costs = relative_costs(groups, *method.mode),
          .key = "method " + method.name,
          .set_layers = [set = setters.of_mode, mode = *method.mode](
                            torch::nn::Module& transformer) { set(transformer, mode); }};
}

// What the file holds is not kept: several would not all fit into memory.
ComparedMethod compared_file(const std::filesystem::path& file, const LayerSetters& setters,
                             const std::vector<LayerGroup>& groups) {
  const ModelCompensation compensation = read_compensation(file);
  const MethodFacts facts = facts_of(compensation, file);
  return {.facts = facts,
          .costs = relative_costs(groups, compensation),
          .key = "method " + facts.name + " of file " + file_revision(file),
          .set_layers = [set = setters.of_file, file](torch::nn::Module& transformer) {
            set(transformer, file);
          }};
}

// Dense first, each once.
std::vector<ComparedMethod> choose_methods(const PromptEvaluationOptions& options,
                                           const LayerSetters& setters,
                                           const std::vector<LayerGroup>& groups) {
  std::vector<ComparedMethod> contenders = {compared_mode(find_method("dense"), setters, groups)};
  const auto is_known = [&](const std::string& name) {
    return std::any_of(contenders.begin(), contenders.end(),
                       [&](const ComparedMethod& known) { return known.facts.name == name; });
  };
  for (const std::string& name : options.methods) {
    if (!is_known(name)) contenders.push_back(compared_mode(find_method(name), setters, groups));
  }
  for (const auto& file : options.compensations) {
    ComparedMethod contender = compared_file(file, setters, groups);
    if (is_known(contender.facts.name)) {
      throw UsageError("--compensation: required files with names of their own, got " +
                       in_quotes(contender.facts.name) + " twice");
    }
    contenders.push_back(std::move(contender));
  }
  return contenders;
}

void check_noise_floor(const PromptEvaluationOptions& options, const torch::Device& device) {
  if (!options.noise_floor) return;
  if (device.is_cpu()) {
    throw UsageError(
        "--noise-floor: required a GPU, where another batch rounds otherwise, got the CPU");
  }
  if (options.request.prompts.size() < 2) {
    throw UsageError("--noise-floor: required two prompts for another batch, got one");
  }
}

std::int64_t parameter_count(const torch::nn::Module& transformer) {
  std::int64_t count = 0;
  for (const torch::Tensor& parameter : transformer.parameters()) count += parameter.numel();
  return count;
}

/// One evaluation, from what can be refused to the report.
class PromptEvaluation {
 public:
  PromptEvaluation(TextToImagePipeline& pipeline, const PromptedModel& model,
                   const PromptEvaluationOptions& options, EvaluateCallback on_progress)
      : pipeline_(pipeline),
        options_(options),
        settings_(pipeline.settings_for(options.request)),
        on_progress_(std::move(on_progress)),
        lpips_(read_lpips(options.lpips)),
        contenders_(choose_methods(options, model.setters, pipeline.model().groups())),
        head_(describe(model)),
        results_(options.results, identity(model),
                 options.restart ? KeptResults::Begin::anew : KeptResults::Begin::go_on),
        work_(work_folder(options.results), identity(model)) {
    for (const ComparedMethod& contender : contenders_) {
      if (contender.facts.e4m3) check_e4m3(model.tensors, contender.facts.name);
    }
    check_noise_floor(options, model.tensors.device());
  }

  EvaluationPlan plan() const {
    const auto methods = std::ssize(unfinished());
    const auto drawn = methods * std::ssize(options_.request.prompts) * settings_.steps;
    return {.methods = methods,
            .picture_steps = drawn,
            .noise_floor_steps = options_.noise_floor ? drawn : 0};
  }

  Json run() {
    if (options_.restart) work_.remove();
    const std::vector<ComparedMethod> waiting = unfinished();
    if (!waiting.empty()) {
      // What does not fit is refused before a picture is drawn.
      for (const ComparedMethod& contender : waiting) set_layers(contender);
      if (auto kept = work_.dense_pictures()) dense_ = std::move(*kept);
    }
    for (const ComparedMethod& contender : waiting) {
      results_.refresh();
      if (results_.find(contender.key)) continue;  // another process was faster
      if (dense_.empty()) draw_dense();
      results_.add(contender.key, measure(contender));
    }
    work_.remove();
    return report();
  }

 private:
  Json describe(const PromptedModel& model) const {
    Json run = {{"model", path_text(std::filesystem::weakly_canonical(model.folder).filename())},
                {"rtlynx", version()},
                {"parameters", parameter_count(*pipeline_.model().outline())},
                {"prompts", options_.request.prompts.size()},
                {"steps", settings_.steps},
                {"guidance", settings_.guidance},
                {"true_cfg", settings_.true_cfg}};
    if (settings_.guided()) run["negative"] = *settings_.negative;
    run.update({{"width", settings_.width},
                {"height", settings_.height},
                {"batch", options_.request.batch},
                {"device", c10::DeviceTypeName(model.tensors.device().type(), true)},
                {"dtype", model.tensors.dtype() == torch::kBFloat16 ? "bf16" : "fp32"}});
    if (!model.sparse_layers.empty()) run["sparse_layers"] = model.sparse_layers;
    if (lpips_) run["lpips_network"] = lpips_->network();
    if (options_.noise_floor) run["noise_floor_batch"] = noise_floor_batch();
    return run;
  }

  // Everything that decides the results of a method, and which of its pictures were written.
  Json identity(const PromptedModel& model) const {
    Json settings = head_;
    settings["pictures_revision"] = pictures_revision();
    settings["parts_revision"] = parts_revision(model.folder, {"transformer", "vae", "scheduler"}) +
                                 " " + pipeline_.model().encoding();
    if (lpips_) settings["lpips_revision"] = file_revision(options_.lpips);
    if (!options_.pictures.empty()) {
      settings["pictures"] = path_text(std::filesystem::absolute(options_.pictures));
      settings["kept_pictures"] = options_.kept_pictures;
    }
    return settings;
  }

  /// Of prompts and seeds: a complaint about others is not to show them all.
  std::string pictures_revision() const {
    WordHash hash;
    for (const std::string& prompt : options_.request.prompts) {
      hash.add(std::as_bytes(std::span(prompt)));
    }
    for (const std::uint64_t seed : options_.request.seeds) hash.add(seed);
    return hash.digits();
  }

  int noise_floor_batch() const {
    return other_batch(options_.request.batch, options_.request.batch);
  }

  void progress(const std::string& stage, std::int64_t finished, std::int64_t all) const {
    if (on_progress_ && !on_progress_(stage, finished, all)) throw Stopped();
  }

  std::vector<ComparedMethod> unfinished() const {
    std::vector<ComparedMethod> waiting;
    std::copy_if(contenders_.begin(), contenders_.end(), std::back_inserter(waiting),
                 [&](const ComparedMethod& contender) { return !results_.find(contender.key); });
    return waiting;
  }

  /// The text encoders run where they have not yet.
  torch::nn::Module& set_layers(const ComparedMethod& contender) {
    PictureCallbacks callbacks;
    callbacks.on_load = [this](std::string_view part) -> LoadProgress {
      return
          [this, stage = fmt::format("load {}", part)](std::uint64_t finished, std::uint64_t all) {
            progress(stage, static_cast<std::int64_t>(finished), static_cast<std::int64_t>(all));
          };
    };
    torch::nn::Module& transformer = pipeline_.prepare(options_.request, callbacks);
    progress(contender.facts.name + ": prepare", 0, 1);
    make_dense(transformer);
    contender.set_layers(transformer);
    return transformer;
  }

  // Of the layers as they are: those that do not gain on this GPU stay dense.
  double cost_of(const ComparedMethod& contender, const torch::nn::Module& transformer) const {
    return relative_cost(pipeline_.model().groups(),
                         pipeline_.model().facts().tokens(settings_.width, settings_.height),
                         without_dense_layers(contender.costs, transformer));
  }

  std::vector<Image> draw(const std::string& stage, int batch) {
    PictureRequest request = options_.request;
    request.batch = batch;
    std::vector<Image> pictures;
    PictureCallbacks callbacks;
    callbacks.on_step = [&](int finished, int all) { progress(stage, finished, all); };
    callbacks.on_images = [&](std::size_t, std::vector<Image> images) {
      std::move(images.begin(), images.end(), std::back_inserter(pictures));
    };
    pipeline_.draw(request, callbacks);
    return pictures;
  }

  void draw_dense() {
    set_layers(contenders_.front());
    dense_ = draw("dense: pictures", options_.request.batch);
    work_.keep_dense_pictures(dense_);
  }

  Json measure(const ComparedMethod& contender) {
    const auto& [name, kind, description, e4m3] = contender.facts;
    const torch::nn::Module& transformer = set_layers(contender);
    Json entry = {{"name", name},
                  {"kind", to_string(kind)},
                  {"description", description},
                  {"relative_cost", cost_of(contender, transformer)}};
    const std::vector<Image> pictures =
        kind == Method::Kind::dense ? dense_ : draw(name + ": pictures", options_.request.batch);
    entry.update(score_against_dense(pictures, dense_, lpips_));
    if (options_.noise_floor) {
      entry.update(score_noise_floor(pictures, draw(name + ": noise floor", noise_floor_batch())));
    }
    write_method_pictures(options_.pictures, name, pictures, options_.kept_pictures);
    return entry;
  }

  Json report() const {
    Json report = head_;
    report["pictures"] = Json::array();
    for (std::size_t i = 0; i < options_.request.prompts.size(); ++i) {
      report["pictures"].push_back(
          {{"prompt", options_.request.prompts[i]}, {"seed", options_.request.seeds[i]}});
    }
    report["methods"] = Json::array();
    for (const ComparedMethod& contender : contenders_) {
      report["methods"].push_back(*results_.find(contender.key));
    }
    return report;
  }

  TextToImagePipeline& pipeline_;
  const PromptEvaluationOptions& options_;
  PictureSettings settings_;
  EvaluateCallback on_progress_;
  std::optional<Lpips> lpips_;
  std::vector<ComparedMethod> contenders_;
  Json head_;
  KeptResults results_;
  KeptWork work_;
  std::vector<Image> dense_;
};

}  // namespace

std::optional<Json> evaluate_prompts(TextToImagePipeline& pipeline, const PromptedModel& model,
                                     const PromptEvaluationOptions& options,
                                     const EvaluateCallback& on_progress,
                                     const PlanCallback& on_plan) {
  PromptEvaluation evaluation(pipeline, model, options, on_progress);
  if (on_plan) on_plan(evaluation.plan());
  try {
    return evaluation.run();
  } catch (const Stopped&) {
    return std::nullopt;
  }
}

}  // namespace rtlynx
