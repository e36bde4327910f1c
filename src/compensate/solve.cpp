// SPDX-License-Identifier: Apache-2.0
#include "compensate/solve.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "compensate/block_transform.h"

namespace rtlynx {
namespace {

constexpr std::array<std::pair<CompensationMethod, std::string_view>, 5> kMethodNames = {{
    {CompensationMethod::naive, "naive"},
    {CompensationMethod::norm, "norm"},
    {CompensationMethod::low_rank, "low-rank"},
    {CompensationMethod::refit, "refit"},
    {CompensationMethod::joint, "joint"},
}};

LayerFit fit_layer(const InputMoments& moments, const torch::Tensor& weight,
                   const SolveOptions& options) {
  switch (options.method) {
    case CompensationMethod::low_rank:
      return low_rank_on_input(moments, weight, options.rank, options.damping);
    case CompensationMethod::refit:
      return refit(moments, weight, options.damping);
    case CompensationMethod::joint:
      return refit_with_low_rank(moments, weight, options.rank, options.damping);
    case CompensationMethod::naive:
    case CompensationMethod::norm:
      break;
  }
  return {.weight = weight, .low_rank = {}};
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

std::string_view to_string(CompensationMethod method) {
  for (const auto& [known, name] : kMethodNames) {
    if (known == method) return name;
  }
  fail("CompensationMethod", "one of the enumerators", std::to_string(static_cast<int>(method)));
}

CompensationMethod compensation_method_from_string(std::string_view text) {
  for (const auto& [method, name] : kMethodNames) {
    if (name == text) return method;
  }
  throw UsageError("method: required naive, norm, low-rank, refit or joint, got " +
                   std::string(text));
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
  const bool low_rank =
      options.method == CompensationMethod::low_rank || options.method == CompensationMethod::joint;
  return low_rank ? options.rank : 0;
}

std::int64_t default_rank(std::int64_t hidden_dim) {
  const std::int64_t two_percent = (hidden_dim + 49) / 50;
  return std::max<std::int64_t>(16, (two_percent + 15) / 16 * 16);
}

LayerSolution solve_layer(const InputMoments& moments, const InputTransform& transform,
                          const torch::Tensor& weight, const SolveOptions& options) {
  const torch::Tensor own = transform.weight_for_z(weight);
  const LayerFit fit = fit_layer(moments, own, options);
  LayerSolution solution;
  solution.values.norm = uses_norm(options);
  solution.values.e4m3 = options.e4m3;
  solution.values.transform = transform;
  const bool refitted =
      options.method == CompensationMethod::refit || options.method == CompensationMethod::joint;
  if (refitted) solution.values.weight = stored(fit.weight);
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
