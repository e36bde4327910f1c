// SPDX-License-Identifier: Apache-2.0
#include "compensate/rivals.h"

#include <string>
#include <utility>

#include "base/error.h"
#include "compensate/fixed_choice.h"
#include "compensate/second_moment.h"
#include "compensate/weight24.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kHalfBlock = 64;

constexpr std::array<std::pair<RivalMethod, std::string_view>, 4> kNames = {{
    {RivalMethod::sparse_gpt, "sparsegpt"},
    {RivalMethod::sparse_gpt_low_rank, "sparsegpt+lora"},
    {RivalMethod::fixed_low_rank, "fixed-low-rank"},
    {RivalMethod::fixed_half, "fixed-half"},
}};

Replacement make(RivalMethod method, const torch::Tensor& weight,
                 const torch::Tensor& second_moment, std::int64_t rank) {
  switch (method) {
    case RivalMethod::sparse_gpt:
      return prune_by_sparse_gpt(weight, second_moment).replacement();
    case RivalMethod::sparse_gpt_low_rank:
      return with_low_rank(prune_by_sparse_gpt(weight, second_moment), weight, second_moment, rank)
          .replacement();
    case RivalMethod::fixed_low_rank:
      return fix_low_rank(weight, second_moment);
    case RivalMethod::fixed_half:
      return fix_half_of_axes(weight, second_moment, kHalfBlock);
  }
  fail("RivalMethod", "one of the enumerators", std::to_string(static_cast<int>(method)));
}

Replacement stored(const Replacement& exact) {
  const auto to = [](const torch::Tensor& tensor) {
    return tensor.defined() ? tensor.to(torch::kCPU, torch::kBFloat16) : tensor;
  };
  return {.axes = to(exact.axes),
          .weight = to(exact.weight),
          .down = to(exact.down),
          .up = to(exact.up),
          .sparse = exact.sparse};
}

}  // namespace

std::string_view to_string(RivalMethod method) {
  for (const auto& [known, name] : kNames) {
    if (known == method) return name;
  }
  fail("RivalMethod", "one of the enumerators", std::to_string(static_cast<int>(method)));
}

RivalMethod rival_method_from_string(std::string_view text) {
  for (const auto& [method, name] : kNames) {
    if (name == text) return method;
  }
  throw UsageError("rival: required sparsegpt, sparsegpt+lora, fixed-low-rank or fixed-half, got " +
                   std::string(text));
}

torch::Tensor input_second_moment(const InputMoments& moments, const InputTransform& transform) {
  const torch::Tensor of_z = moments.second_moment();
  if (transform.is_identity()) return of_z;
  const torch::Tensor inverse = transform.weight_for_z(
      torch::eye(moments.channels(), of_z.options()));  // A^-T: what I is to x
  return inverse.matmul(of_z).matmul(inverse.t());
}

std::optional<RivalSolution> solve_rival(RivalMethod method, const torch::Tensor& weight,
                                         const torch::Tensor& second_moment, std::int64_t rank) {
  if (method == RivalMethod::fixed_half && weight.size(1) % kHalfBlock != 0) return std::nullopt;
  RivalSolution solution{.values = stored(make(method, weight, second_moment, rank))};
  solution.error = relative_output_error(
      weight, solution.values.effective().to(second_moment.device()), second_moment);
  return solution;
}

}  // namespace rtlynx
