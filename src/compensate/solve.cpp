// SPDX-License-Identifier: Apache-2.0
#include "compensate/solve.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "compensate/block_transform.h"

namespace rtlynx {
namespace {

/// What a method gives a layer, and how.
struct MethodEntry {
  CompensationMethod method;
  std::string_view name;
  bool has_weight;  // W' is another than the layer's own
  bool has_low_rank;
  LayerFit (*fit)(const InputMoments& moments, const torch::Tensor& weight,
                  const SolveOptions& options);
};

LayerFit keep_weight(const InputMoments&, const torch::Tensor& weight, const SolveOptions&) {
  return {.weight = weight, .low_rank = {}};
}

constexpr std::array<MethodEntry, 5> kMethods = {{
    {CompensationMethod::naive, "naive", false, false, keep_weight},
    {CompensationMethod::norm, "norm", false, false, keep_weight},
    {CompensationMethod::low_rank, "low-rank", false, true,
     [](auto& moments, auto& weight, auto& options) {
       return low_rank_on_input(moments, weight, options.rank, options.damping);
     }},
    {CompensationMethod::refit, "refit", true, false,
     [](auto& moments, auto& weight, auto& options) {
       return refit(moments, weight, options.damping);
     }},
    {CompensationMethod::joint, "joint", true, true,
     [](auto& moments, auto& weight, auto& options) {
       return refit_with_low_rank(moments, weight, options.rank, options.damping);
     }},
}};

const MethodEntry& entry_of(CompensationMethod method) {
  for (const MethodEntry& entry : kMethods) {
    if (entry.method == method) return entry;
  }
  fail("CompensationMethod", "one of the enumerators", std::to_string(static_cast<int>(method)));
}

torch::Tensor stored(const torch::Tensor& values) {
  return values.to(torch::kCPU, torch::kBFloat16);
}

// The fit that a file holds, rounding included. `own` [N, K] stands in for a weight that it lacks.
LayerFit as_stored(const Compensation24& values, const torch::Tensor& own) {
  LayerFit fit{.weight = values.weight.defined() ? values.weight.to(own) : own, .low_rank = {}};
  if (values.down.defined()) {
    fit.low_rank = {.down = values.down.to(own), .up = values.up.to(own)};
  }
  return fit;
}

}  // namespace

std::string_view to_string(CompensationMethod method) { return entry_of(method).name; }

std::vector<std::string> compensation_method_names() {
  std::vector<std::string> names;
  for (const MethodEntry& entry : kMethods) names.emplace_back(entry.name);
  return names;
}

CompensationMethod compensation_method_from_string(std::string_view text) {
  std::string names;
  for (const MethodEntry& entry : kMethods) {
    if (entry.name == text) return entry.method;
    names += (names.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw UsageError("method: required one of " + names + ", got " + std::string(text));
}

std::string to_string(const TransformChoice& choice) {
  switch (choice.kind) {
    case TransformChoice::Kind::none:
      return "none";
    case TransformChoice::Kind::block:
      return "block " + std::to_string(choice.block);
    case TransformChoice::Kind::columns:
      return "columns";
    case TransformChoice::Kind::permute:
      return "permute";
  }
  fail("TransformChoice", "one of the enumerators", std::to_string(static_cast<int>(choice.kind)));
}

TransformChoice transform_choice_from_string(std::string_view text) {
  if (text == "none") return {};
  if (text == "columns") return {.kind = TransformChoice::Kind::columns};
  if (text == "permute") return {.kind = TransformChoice::Kind::permute};
  for (const std::int64_t block : kBlockSizes) {
    if (text == std::to_string(block)) {
      return {.kind = TransformChoice::Kind::block, .block = block};
    }
  }
  throw UsageError("transform: required none, 4, 16, 64, 128, columns or permute, got " +
                   std::string(text));
}

InputTransform choose_transform(const TransformChoice& choice, const SharedInput& group,
                                const torch::Tensor& second_moment) {
  std::vector<torch::Tensor> weights;
  for (const NamedLinear& layer : group.layers) weights.push_back(layer.linear->weight);
  switch (choice.kind) {
    case TransformChoice::Kind::none:
      return {};
    case TransformChoice::Kind::block:
      return block_transform(second_moment, weights, choice.block);
    case TransformChoice::Kind::columns:
      return column_norm_transform(weights);
    case TransformChoice::Kind::permute:
      return group.order_is_free ? column_norm_transform_permuted(second_moment, weights)
                                 : column_norm_transform(weights);
  }
  fail("TransformChoice", "one of the enumerators", std::to_string(static_cast<int>(choice.kind)));
}

bool uses_norm(const SolveOptions& options) {
  if (options.method == CompensationMethod::naive) return false;
  return options.method == CompensationMethod::norm || options.norm;
}

std::int64_t rank_of(const SolveOptions& options) {
  return entry_of(options.method).has_low_rank ? options.rank : 0;
}

std::int64_t default_rank(std::int64_t hidden_dim) {
  const std::int64_t two_percent = (hidden_dim + 49) / 50;
  return std::max<std::int64_t>(16, (two_percent + 15) / 16 * 16);
}

LayerSolution solve_layer(const InputMoments& moments, const InputTransform& transform,
                          const torch::Tensor& weight, const SolveOptions& options) {
  const torch::Tensor own = transform.weight_for_z(weight);
  const MethodEntry& method = entry_of(options.method);
  const LayerFit fit = method.fit(moments, own, options);
  LayerSolution solution;
  solution.values.norm = uses_norm(options);
  solution.values.e4m3 = options.e4m3;
  solution.values.transform = transform;
  if (method.has_weight) solution.values.weight = stored(fit.weight);
  if (fit.low_rank.defined()) {
    solution.values.down = stored(fit.low_rank.down);
    solution.values.up = stored(fit.low_rank.up);
  }
  solution.error_before = relative_output_error(moments, own, {.weight = own, .low_rank = {}});
  solution.error = relative_output_error(moments, own, as_stored(solution.values, own));
  solution.unrecoverable =
      options.method == CompensationMethod::joint
          ? solution.error * solution.error  // which is what joint cannot recover
          : unrecoverable_share(moments, own, options.rank, options.damping);
  return solution;
}

}  // namespace rtlynx
