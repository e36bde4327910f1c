// SPDX-License-Identifier: Apache-2.0
#include "study/methods.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "compensate/fixed_choice.h"
#include "compensate/weight24.h"
#include "io/text.h"
#include "models/recipe.h"
#include "models/shared_input.h"
#include "study/calibration_part.h"
#include "study/choose_layers.h"
#include "study/compensation_cost.h"
#include "study/layer_error.h"

namespace rtlynx {
namespace {

using torch::Tensor;

/// What becomes of one layer: a dense weight with the same outputs, and what it would cost.
struct Rival {
  torch::Tensor weight;  // [N, K]
  double relative_flops = 1;
};

/// From a weight [N, K], the second moment [K, K] of its inputs, and the rank that low ranks get.
using MakeRival = std::function<Rival(const torch::Tensor& weight, const torch::Tensor& moment,
                                      std::int64_t rank)>;

Rival as_rival(const PrunedWeight& pruned) {
  return {.weight = pruned.effective(), .relative_flops = pruned.relative_flops()};
}

Rival as_rival(const Replacement& fixed, const Tensor& weight) {
  return {.weight = fixed.effective(),
          .relative_flops = fixed.relative_flops(weight.size(1), weight.size(0))};
}

/// In one forward pass for a picture of the trained size.
StreamTokens tokens_of(const Pipeline& pipeline) {
  const std::int64_t side = pipeline.trained_size / pipeline.patch;
  return {.image = side * side, .text = pipeline.text_encoder->max_tokens()};
}

/// Second moments of the layers' inputs, each computed once.
class MomentsByLayer {
 public:
  MomentsByLayer(const GroupMoments& moments, const std::vector<LayerGroup>& groups)
      : moments_(moments), input_of_(input_names(groups)) {}

  const torch::Tensor& of(const std::string& layer) {
    torch::Tensor& known = means_[input_of_.at(layer)];
    if (!known.defined()) known = find(layer).second_moment();
    return known;
  }

 private:
  const InputMoments& find(const std::string& layer) const {
    const std::string& input = input_of_.at(layer);
    const auto found = moments_.find(input);
    if (found == moments_.end()) fail("method", "second moments of " + input, "none");
    return found->second;
  }

  const GroupMoments& moments_;
  std::map<std::string, std::string> input_of_;
  std::map<std::string, torch::Tensor> means_;
};

double replace_layers(Pipeline& pipeline, const MethodInputs& inputs, const MakeRival& make) {
  const torch::NoGradGuard no_grad;
  const std::vector<LayerGroup>& groups = pipeline.transformer->groups();
  const LayerFilter in_paper = paper_layers(groups);
  MomentsByLayer moments(inputs.moments, groups);
  const std::map<std::string, double> products = products_by_layer(groups, tokens_of(pipeline));
  const std::int64_t rank = default_rank(pipeline.transformer->config().hidden_dim());
  double spent = 0, whole = 0;
  for (const NamedLinear& layer : named_linears(*pipeline.transformer)) {
    const std::string& name = layer.name;
    SparseLinear linear = layer.linear;
    if (!in_paper(name)) continue;
    const torch::Tensor& weight = linear->weight;
    const Rival rival = of_layer(name, [&] { return make(weight, moments.of(name), rank); });
    linear->set_replacement({.weight = rival.weight});
    linear->set_mode(LinearMode::replaced);
    spent += rival.relative_flops * products.at(name);
    whole += products.at(name);
  }
  return spent / whole;
}

/// What a method asks of the layers.
struct Needs {
  bool low_rank = false;   ///< the default rank in every layer
  std::int64_t block = 0;  ///< inputs in blocks of so many channels
};

std::function<void(const Pipeline&)> checker(const Needs& needs) {
  return [needs](const Pipeline& pipeline) {
    CalibrateOptions options;
    options.solve.rank =
        needs.low_rank ? default_rank(pipeline.transformer->config().hidden_dim()) : 1;
    if (needs.block > 0) {
      options.transform = {.kind = TransformChoice::Kind::block, .block = needs.block};
    }
    check_calibration(pipeline, options);
  };
}

Method plain(LinearMode mode, Method::Kind kind, std::string description) {
  return {.name = std::string(to_string(mode)),
          .kind = kind,
          .description = std::move(description),
          .mode = mode,
          .check = mode == LinearMode::dense ? [](const Pipeline&) {} : checker({}),
          .prepare = [mode](Pipeline& pipeline, const MethodInputs&) {
            apply_recipe(*pipeline.transformer, paper_layers(pipeline.transformer->groups()), mode);
            return relative_cost(mode);
          }};
}

Method rival(std::string name, Method::Kind kind, std::string description, MakeRival make,
             const Needs& needs = {}) {
  return {.name = std::move(name),
          .kind = kind,
          .description = std::move(description),
          .reads_moments = true,
          .check = checker(needs),
          .prepare = [make = std::move(make)](Pipeline& pipeline, const MethodInputs& inputs) {
            return replace_layers(pipeline, inputs, make);
          }};
}

std::vector<Method> weight_methods() {
  constexpr auto kKind = Method::Kind::weight24;
  std::vector<Method> methods;
  const auto add = [&](std::string name, std::string description, MakeRival make,
                       const Needs& needs = {}) {
    methods.push_back(
        rival(std::move(name), kKind, std::move(description), std::move(make), needs));
  };
  add("magnitude", "largest weights",
      [](const Tensor& w, const Tensor&, auto) { return as_rival(prune_by_magnitude(w)); });
  add("wanda", "weights times input norms",
      [](const Tensor& w, const Tensor& c, auto) { return as_rival(prune_by_wanda(w, c)); });
  add("ria", "weights relative to row and column, times input norms to 1/2",
      [](const Tensor& w, const Tensor& c, auto) { return as_rival(prune_by_ria(w, c)); });
  add("ria-permuted", "RIA with channels dealt out to groups; permutes inputs at run time",
      [](const Tensor& w, const Tensor& c, auto) {
        return as_rival(prune_by_ria(w, c, ChannelOrder::snake));
      });
  add("bawa-style", "our reconstruction of BaWA, whose code is not public",
      [](const Tensor& w, const Tensor& c, auto) {
        return as_rival(prune_bawa_style(w, c, search_bawa_exponents(w, c)));
      });
  add("sparsegpt", "kept weights make up for those that go",
      [](const Tensor& w, const Tensor& c, auto) { return as_rival(prune_by_sparse_gpt(w, c)); });
  add("slim", "Wanda and a low rank of a tenth of d, its saliency form",
      [](const Tensor& w, const Tensor& c, auto) { return as_rival(prune_by_slim(w, c)); });
  add("wanda+lora", "Wanda and the closest low rank to what it lost",
      [](const Tensor& w, const Tensor& c, std::int64_t rank) {
        return as_rival(with_low_rank(prune_by_wanda(w, c), w, c, rank));
      },
      {.low_rank = true});
  add("sparsegpt+lora", "SparseGPT and the closest low rank to what it lost",
      [](const Tensor& w, const Tensor& c, std::int64_t rank) {
        return as_rival(with_low_rank(prune_by_sparse_gpt(w, c), w, c, rank));
      },
      {.low_rank = true});
  return methods;
}

std::vector<Method> fixed_methods() {
  constexpr auto kKind = Method::Kind::fixed_choice;
  return {
      rival("fixed-low-rank", kKind, "closest low rank with half of the multiplications",
            [](const Tensor& w, const Tensor& c, auto) { return as_rival(fix_low_rank(w, c), w); }),
      rival("fixed-half", kKind, "the stronger half of the axes of each block of 64, refitted",
            [](const Tensor& w, const Tensor& c, auto) {
              return as_rival(fix_half_of_axes(w, c), w);
            },
            {.block = 64})};
}

double cost_of(const Pipeline& pipeline, const ModelCompensation& compensation) {
  return relative_cost(pipeline.transformer->groups(), tokens_of(pipeline), compensation);
}

std::string sums_key(const CalibrateOptions& options) {
  return to_string(options.transform) + (uses_norm(options.solve) ? " norm" : "");
}

// The run and the rank are the inputs' and the model's.
CalibrateResult solve_model(Pipeline& pipeline, const MethodInputs& inputs,
                            CalibrateOptions options) {
  options.run = inputs.run;
  options.solve.rank = default_rank(pipeline.transformer->config().hidden_dim());
  const std::string key = sums_key(options);
  if (!inputs.sums->contains(key)) {
    if (inputs.statistics) options.statistics = inputs.statistics(key);
    std::optional<CalibrationSums> sums = collect_sums(pipeline, options, inputs.on_calibrate);
    if (!sums) throw Stopped();
    inputs.sums->emplace(key, std::move(*sums));
  }
  return solve_layers(pipeline, inputs.sums->at(key), options);
}

/// Sparse activations with what rtlynx calibrate makes of the run.
Method compensated(std::string name, std::string description, SolveOptions solve,
                   const char* transform) {
  const CalibrateOptions options{.transform = transform_choice_from_string(transform),
                                 .solve = solve};
  const auto prepare = [options](Pipeline& pipeline, const MethodInputs& inputs) {
    const ModelCompensation made = solve_model(pipeline, inputs, options).compensation;
    apply_compensation(*pipeline.transformer, made, "compensation");
    return cost_of(pipeline, made);
  };
  return {.name = std::move(name),
          .kind = Method::Kind::activation24,
          .description = std::move(description),
          .reads_moments = true,
          .e4m3 = solve.e4m3,
          .check = checker({.low_rank = true, .block = options.transform.block}),
          .calibrations = {{sums_key(options), options}},
          .prepare = prepare};
}

std::vector<Method> compensated_methods() {
  using M = CompensationMethod;
  return {
      compensated("norm+lora", "norm and a low rank in closed form: the paper's recipe",
                  {.method = M::low_rank, .norm = true}, "none"),
      compensated("norm+lora+e4m3", "norm+lora, kept values and weights in e4m3",
                  {.method = M::low_rank, .norm = true, .e4m3 = true}, "none"),
      compensated("refit", "new weights by least squares", {.method = M::refit}, "none"),
      compensated("joint", "new weights and a low rank at once", {.method = M::joint}, "none"),
      compensated("columns+joint", "chosen by column norms, then joint", {.method = M::joint},
                  "columns"),
      compensated("block64", "blocks of 64 channels transformed before the choice",
                  {.method = M::naive}, "64"),
      compensated("block64+joint", "block64, then joint", {.method = M::joint}, "64"),
      compensated("block64+joint+e4m3", "block64+joint, kept values and weights in e4m3",
                  {.method = M::joint, .e4m3 = true}, "64"),
  };
}

Method mixed() {
  const CalibrateOptions options{.solve = {.method = CompensationMethod::joint},
                                 .rivals = {kRivalMethods.begin(), kRivalMethods.end()}};
  const auto prepare = [options](Pipeline& pipeline, const MethodInputs& inputs) {
    constexpr int kPrompts = 2, kSteps = 4;  // to rank layers by
    const LayerCandidates candidates = candidates_of(solve_model(pipeline, inputs, options));
    const DenseTrajectory trajectory = choice_trajectory(pipeline, inputs.run, kPrompts, kSteps);
    const LayerChoices choices =
        choose_layers(pipeline, candidates, trajectory,
                      {.kind = LayerBudget::Kind::equal, .measure = CostMeasure::multiplications});
    return cost_of(pipeline, choices.compensation);
  };
  return {
      .name = "mixed",
      .kind = Method::Kind::mixed,
      .description = "by layer: joint, SparseGPT, a fixed choice or dense, at most at joint's cost",
      .reads_moments = true,
      .check = checker({.low_rank = true}),
      .calibrations = {{sums_key(options), options}},
      .prepare = prepare};
}

std::vector<Method> make_methods() {
  std::vector<Method> methods = {
      plain(LinearMode::dense, Method::Kind::dense, "the model as it is"),
      plain(LinearMode::naive, Method::Kind::activation24,
            "the two largest of every four channels of each token"),
      plain(LinearMode::norm, Method::Kind::activation24,
            "the two largest of every four, scaled to the norm of the token")};
  for (auto more : {compensated_methods(), weight_methods(), fixed_methods()}) {
    std::move(more.begin(), more.end(), std::back_inserter(methods));
  }
  methods.push_back(mixed());
  return methods;
}

}  // namespace

std::string_view to_string(Method::Kind kind) {
  switch (kind) {
    case Method::Kind::dense:
      return "dense";
    case Method::Kind::activation24:
      return "activation 2:4";
    case Method::Kind::weight24:
      return "weight 2:4";
    case Method::Kind::fixed_choice:
      return "fixed choice";
    case Method::Kind::mixed:
      return "mixed";
  }
  fail("Method::Kind", "one of the enumerators", std::to_string(static_cast<int>(kind)));
}

std::span<const Method> all_methods() {
  static const std::vector<Method> methods = make_methods();
  return methods;
}

const Method& find_method(std::string_view name) {
  const auto methods = all_methods();
  const auto found = std::find_if(methods.begin(), methods.end(),
                                  [&](const Method& method) { return method.name == name; });
  if (found != methods.end()) return *found;
  std::string names;
  for (const Method& method : methods) names += (names.empty() ? "" : ", ") + method.name;
  throw UsageError("method: required one of " + names + ", got " + std::string(name));
}

bool runs_e4m3(const torch::TensorOptions& options) {
  return options.device().is_cpu() || options.dtype() != torch::kFloat32;
}

void check_e4m3(const torch::TensorOptions& options, std::string_view method) {
  if (runs_e4m3(options)) return;
  throw UsageError(std::string(method) +
                   ": required bf16 for values in e4m3 on a GPU, --dtype bf16, got fp32");
}

MethodFacts facts_of(const ModelCompensation& compensation, const std::filesystem::path& file) {
  const auto any = [&](const auto& holds) {
    return std::any_of(compensation.layers.begin(), compensation.layers.end(),
                       [&](const auto& item) { return holds(item.second); });
  };
  const bool replaces = any([](const auto& layer) { return layer.replacement.has_value(); });
  return {.name = path_text(file.stem()),
          .kind = replaces ? Method::Kind::mixed : Method::Kind::activation24,
          .description = compensation.method + ", transform " + compensation.transform + ", rank " +
                         std::to_string(compensation.rank),
          .e4m3 = any([](const auto& layer) { return layer.values.e4m3; })};
}

Method method_from_file(Pipeline& pipeline, const std::filesystem::path& path) {
  const ModelCompensation compensation = read_compensation(path);
  const MethodFacts facts = facts_of(compensation, path);
  apply_compensation(*pipeline.transformer, compensation, path.string());
  restore_dense(pipeline);
  return {.name = facts.name,
          .kind = facts.kind,
          .description = facts.description,
          .e4m3 = facts.e4m3,
          .check = [](const Pipeline&) {},  // applied above
          .prepare =
              [compensation, path](Pipeline& of, const MethodInputs&) {
                apply_compensation(*of.transformer, compensation, path.string());
                return cost_of(of, compensation);
              }};
}

void restore_dense(Pipeline& pipeline) { make_dense(*pipeline.transformer); }

}  // namespace rtlynx
