// SPDX-License-Identifier: Apache-2.0
#include "study/calibrate.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <iomanip>
#include <iterator>
#include <map>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "models/recipe.h"
#include "models/revision.h"
#include "ops/ops.h"
#include "study/calibration_state.h"

namespace rtlynx {
namespace {

using Transforms = std::map<std::string, InputTransform>;  // by input group

std::vector<InputGroup> groups_of(const Pipeline& pipeline, const CalibrateOptions& options) {
  std::vector<InputGroup> groups =
      input_groups(*pipeline.transformer, recipe_from_string(options.recipe));
  if (groups.empty()) {
    throw UsageError("recipe: required one that names layers of " + pipeline.name + ", got " +
                     options.recipe);
  }
  const std::int64_t rank = options.solve.rank;
  for (const InputGroup& group : groups) {
    for (const NamedLinear& layer : group.layers) {
      const std::int64_t most = std::min(group.channels(), layer.linear->out_features());
      if (rank < 1 || rank > most) {
        throw UsageError("rank: required 1 to " + std::to_string(most) + " for " + layer.name +
                         ", got " + std::to_string(rank));
      }
    }
  }
  return groups;
}

std::int64_t bytes_of(const InputGroup& group, const CalibrateOptions& options) {
  return (options.transform.needs_moments() ? 32 : 24) * group.channels() * group.channels();
}

/// Inputs whose sums are held at the same time.
using Part = std::vector<InputGroup>;

std::vector<Part> parts_of(const Pipeline& pipeline, const CalibrateOptions& options) {
  std::vector<Part> parts;
  std::int64_t held = 0;
  for (const InputGroup& group : groups_of(pipeline, options)) {
    const std::int64_t bytes = bytes_of(group, options);
    if (parts.empty() || held + bytes > options.memory) {
      parts.emplace_back();
      held = 0;
    }
    parts.back().push_back(group);
    held += bytes;
  }
  return parts;
}

std::filesystem::path part_file(std::filesystem::path path, std::size_t part, std::size_t parts) {
  if (path.empty() || parts == 1) return path;
  std::ostringstream name;
  name << path.stem().string() << '-' << std::setfill('0') << std::setw(5) << part + 1 << "-of-"
       << std::setw(5) << parts << path.extension().string();
  return path.replace_filename(name.str());
}

// Everything that decides the sums; method, rank and damping do not.
SafetensorsMetadata describe(const Pipeline& pipeline, const CalibrateOptions& options,
                             const Part& part) {
  std::ostringstream guidance;
  guidance << options.run.guidance;
  return {{"base_revision", weights_revision(*pipeline.transformer)},
          {"first_input", part.front().name},
          {"inputs", std::to_string(part.size())},
          {"recipe", options.recipe},
          {"transform", to_string(options.transform)},
          {"norm", uses_norm(options.solve) ? "true" : "false"},
          {"prompts", std::to_string(options.run.prompts)},
          {"seed", std::to_string(options.run.seed)},
          {"steps", std::to_string(options.run.steps)},
          {"guidance", guidance.str()},
          {"batch", std::to_string(options.run.batch)},
          {"rows", std::to_string(options.rows)}};
}

// As a layer holds it: in the weights' type, on their device.
InputTransform converted(const InputTransform& transform, const torch::TensorOptions& like) {
  const auto to = [&](const torch::Tensor& tensor) {
    return tensor.defined() ? tensor.to(like) : tensor;
  };
  return {.blocks = to(transform.blocks),
          .scale = to(transform.scale),
          .permutation = transform.permutation};
}

/// Adds what the groups' layers read to the sums of a pass.
class Collector {
 public:
  /// Without `transforms` inputs alone are summed.
  Collector(const std::vector<InputGroup>& groups, const Transforms* transforms,
            const CalibrateOptions& options, const torch::TensorOptions& like)
      : norm_(uses_norm(options.solve)), rows_(options.rows) {
    for (const InputGroup& group : groups) {
      // Any of its layers sees the group's input.
      Source source{.group = group.name, .selects = transforms != nullptr};
      if (source.selects) source.transform = converted(transforms->at(group.name), like);
      sources_.emplace(group.layers.front().name, std::move(source));
    }
  }

  bool wants(const std::string& layer) const { return sources_.contains(layer); }

  /// The tokens that are taken of a batch depend on its first prompt alone, not on the other
  /// inputs.
  void begin_batch(std::int64_t first) {
    for (auto& [layer, source] : sources_) {
      source.generator = at::detail::createCPUGenerator(static_cast<std::uint64_t>(first));
    }
  }

  void add(const std::string& layer, const torch::Tensor& x, GroupMoments& moments) const {
    // Sums made in inference mode could not be added to outside of it.
    const c10::InferenceMode off(false);
    const torch::NoGradGuard no_grad;
    const Source& source = sources_.at(layer);
    InputMoments& sums = moments[source.group];
    const torch::Tensor rows = some_rows(x, source.generator);
    if (!source.selects) {
      sums.add(rows);
      return;
    }
    const torch::Tensor z = source.transform.apply(rows);
    const auto [kept, scale] = ops::sparsify24(z, norm_);
    sums.add(z, kept * scale.unsqueeze(1));
  }

 private:
  struct Source {
    std::string group;
    bool selects = false;
    InputTransform transform;
    at::Generator generator;
  };

  // [rows, K], or all of them where there are fewer.
  torch::Tensor some_rows(const torch::Tensor& x, const at::Generator& generator) const {
    const torch::Tensor all = x.reshape({-1, x.size(-1)});
    if (all.size(0) <= rows_) return all;
    const torch::Tensor chosen =
        torch::randperm(all.size(0), generator, torch::TensorOptions().dtype(torch::kInt64))
            .narrow(0, 0, rows_);
    return all.index_select(0, chosen.to(all.device()));
  }

  std::map<std::string, Source> sources_;  // by the layer that is observed
  bool norm_;
  std::int64_t rows_;
};

/// The passes of a part over the prompts, batch by batch.
class Calibration {
 public:
  Calibration(Pipeline& pipeline, const CalibrateOptions& options, Part part,
              std::filesystem::path statistics)
      : pipeline_(pipeline),
        options_(options),
        part_(std::move(part)),
        statistics_(std::move(statistics)),
        request_(calibration_request(options.run)),
        description_(describe(pipeline, options, part_)) {
    request_.width = request_.height = pipeline.trained_size;
    if (!statistics_.empty()) {
      state_ = load_calibration(statistics_, description_, pipeline.options().device());
    }
  }

  /// `progress` counts the passes of all parts.
  std::optional<CalibrationSums> run(CalibrateProgress& progress,
                                     const CalibrateCallback& on_step) {
    if (options_.transform.needs_moments()) {
      Collector collector(part_, nullptr, options_, pipeline_.options());
      if (!finish_pass(state_.inputs, collector, progress, on_step)) return std::nullopt;
      ++progress.pass;
    }
    const Transforms transforms = make_transforms();
    Collector collector(part_, &transforms, options_, pipeline_.options());
    if (!finish_pass(state_.choices, collector, progress, on_step)) return std::nullopt;
    ++progress.pass;
    return CalibrationSums{.transforms = transforms, .moments = std::move(state_.choices.moments)};
  }

 private:
  // False if it was stopped.
  bool finish_pass(CalibrationPass& pass, Collector& collector, CalibrateProgress& progress,
                   const CalibrateCallback& on_step) {
    const auto prompts = static_cast<std::int64_t>(request_.prompts.size());
    bool go_on = true;
    int batches = 0;
    while (pass.finished < prompts && go_on) {
      const std::int64_t first = pass.finished;
      const std::int64_t last = std::min<std::int64_t>(first + options_.run.batch, prompts);
      collector.begin_batch(first);
      observe_inputs(
          pipeline_, slice(first, last), [&](const auto& layer) { return collector.wants(layer); },
          [&](const auto& layer, const auto& x) { collector.add(layer, x, pass.moments); },
          [&](int finished, int) {
            if (!on_step) return;
            progress.finished = batches_of(first) * options_.run.steps + finished;
            progress.steps = batches_of(prompts) * options_.run.steps;
            go_on = on_step(progress) && go_on;
          });
      pass.finished = last;
      ++batches;
      const bool due = batches % options_.save_interval == 0;
      if (due || !go_on || pass.finished == prompts) save();
    }
    return pass.finished == prompts;
  }

  GenerateRequest slice(std::int64_t first, std::int64_t last) const {
    GenerateRequest part = request_;
    part.prompts.assign(request_.prompts.begin() + first, request_.prompts.begin() + last);
    part.seeds.assign(request_.seeds.begin() + first, request_.seeds.begin() + last);
    return part;
  }

  int batches_of(std::int64_t prompts) const {
    return static_cast<int>((prompts + options_.run.batch - 1) / options_.run.batch);
  }

  void save() const {
    if (!statistics_.empty()) save_calibration(statistics_, description_, state_);
  }

  Transforms make_transforms() const {
    Transforms transforms;
    for (const InputGroup& group : part_) {
      const torch::Tensor moment = options_.transform.needs_moments()
                                       ? state_.inputs.moments.at(group.name).second_moment()
                                       : torch::Tensor();
      transforms[group.name] = choose_transform(options_.transform, group, moment);
    }
    return transforms;
  }

  Pipeline& pipeline_;
  const CalibrateOptions& options_;
  Part part_;
  std::filesystem::path statistics_;
  GenerateRequest request_;
  SafetensorsMetadata description_;
  CalibrationState state_;
};

CalibrateProgress progress_over(std::size_t parts, const CalibrateOptions& options) {
  return {.passes = static_cast<int>(parts) * (options.transform.needs_moments() ? 2 : 1)};
}

void append(CalibrateResult& all, CalibrateResult part) {
  if (all.layers.empty()) {
    all = std::move(part);
    return;
  }
  std::move(part.layers.begin(), part.layers.end(), std::back_inserter(all.layers));
  all.compensation.layers.merge(part.compensation.layers);
}

}  // namespace

std::optional<CalibrationSums> collect_sums(Pipeline& pipeline, const CalibrateOptions& options,
                                            const CalibrateCallback& on_step) {
  CalibrateProgress progress = progress_over(1, options);
  return Calibration(pipeline, options, groups_of(pipeline, options), options.statistics)
      .run(progress, on_step);
}

CalibrateResult solve_layers(const Pipeline& pipeline, const CalibrationSums& sums,
                             const CalibrateOptions& options) {
  CalibrateResult result{.finished = true,
                         .layers = {},
                         .compensation = {.base_model = pipeline.name,
                                          .base_revision = weights_revision(*pipeline.transformer),
                                          .method = std::string(to_string(options.solve.method)),
                                          .transform = to_string(options.transform),
                                          .recipe = options.recipe,
                                          .rank = rank_of(options.solve),
                                          .layers = {}}};
  for (const InputGroup& group : groups_of(pipeline, options)) {
    if (!sums.moments.contains(group.name)) continue;
    const InputMoments& moments = sums.moments.at(group.name);
    for (const auto& [name, linear] : group.layers) {
      LayerSolution solution =
          solve_layer(moments, sums.transforms.at(group.name), linear->weight, options.solve);
      result.compensation.layers[name] = {.input = group.name, .values = solution.values};
      result.layers.push_back({.name = name,
                               .input = group.name,
                               .tokens = moments.tokens,
                               .in_features = linear->in_features(),
                               .out_features = linear->out_features(),
                               .solution = std::move(solution)});
    }
  }
  return result;
}

CalibrateResult calibrate(Pipeline& pipeline, const CalibrateOptions& options,
                          const CalibrateCallback& on_step) {
  const std::vector<Part> parts = parts_of(pipeline, options);
  CalibrateProgress progress = progress_over(parts.size(), options);
  CalibrateResult result;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Calibration part(pipeline, options, parts[i], part_file(options.statistics, i, parts.size()));
    const std::optional<CalibrationSums> sums = part.run(progress, on_step);
    if (!sums) return {};
    append(result, solve_layers(pipeline, *sums, options));
  }
  return result;
}

std::int64_t statistics_bytes(const Pipeline& pipeline, const CalibrateOptions& options) {
  std::int64_t bytes = 0;
  for (const InputGroup& group : groups_of(pipeline, options)) bytes += bytes_of(group, options);
  return bytes;
}

std::vector<std::filesystem::path> statistics_files(const Pipeline& pipeline,
                                                    const CalibrateOptions& options) {
  const std::size_t parts = parts_of(pipeline, options).size();
  std::vector<std::filesystem::path> files;
  for (std::size_t i = 0; i < parts; ++i) files.push_back(part_file(options.statistics, i, parts));
  return files;
}

nlohmann::ordered_json to_json(const CalibrateResult& result) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const CalibratedLayer& layer : result.layers) {
    layers.push_back({{"name", layer.name},
                      {"input", layer.input},
                      {"in", layer.in_features},
                      {"out", layer.out_features},
                      {"tokens", layer.tokens},
                      {"error_before", layer.solution.error_before},
                      {"error", layer.solution.error},
                      {"unrecoverable", layer.solution.unrecoverable}});
  }
  const ModelCompensation& made = result.compensation;
  return {{"model", made.base_model}, {"revision", made.base_revision},
          {"method", made.method},    {"transform", made.transform},
          {"recipe", made.recipe},    {"rank", made.rank},
          {"layers", layers}};
}

}  // namespace rtlynx
