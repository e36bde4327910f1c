// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "ops/arguments.h"
#include "ops/guarded.h"
#include "ops/linear_algebra.h"

namespace rtlynx::ops {
namespace {

constexpr std::array<std::int64_t, 4> kBlockSizes = {4, 16, 64, 128};
constexpr std::int64_t kGroup = 4;
constexpr double kWeightDamping = 1e-4;

using Sizes = std::vector<std::int64_t>;

Tensor reshaped(const Tensor& a, const Sizes& sizes) {
  return call_aten("aten::reshape", "", a, sizes);
}
Tensor bmm(const Tensor& a, const Tensor& b) { return call_aten("aten::bmm", "", a, b); }

void check(const Tensor& moment, const std::vector<Tensor>& weights, std::int64_t block) {
  constexpr const char* kOp = "block_transform";
  require(!weights.empty(), kOp, "at least one weight", "none");
  for (const Tensor& weight : weights) {
    if (weight.dim() != 2 || weight.size(1) != weights.front().size(1)) {
      fail(kOp, "weights [N, K] of one K", describe(weight));
    }
  }
  const std::int64_t channels = weights.front().size(1);
  if (moment.dim() != 2 || moment.size(0) != channels || moment.size(1) != channels) {
    fail(kOp, "a second moment for " + describe(weights.front()), describe(moment));
  }
  if (std::find(kBlockSizes.begin(), kBlockSizes.end(), block) == kBlockSizes.end() ||
      channels % block != 0) {
    fail(kOp, "blocks of 4, 16, 64 or 128 channels that divide " + std::to_string(channels),
         std::to_string(block));
  }
}

// The diagonal blocks [K / g, g, g] of [K, K].
Tensor diagonal_blocks(const Tensor& matrix, std::int64_t block) {
  const std::int64_t count = matrix.size(0) / block;
  const Tensor tiles = reshaped(matrix, {count, block, count, block});
  const Tensor diagonal =
      call_aten("aten::diagonal", "", tiles, std::int64_t{0}, std::int64_t{0}, std::int64_t{2});
  return call_aten("aten::permute", "", diagonal, Sizes{2, 0, 1});
}

// The sum over all weights of W_b^T W_b: [K / g, g, g], damped.
Tensor block_grams(const std::vector<Tensor>& weights, std::int64_t block, const Tensor& moment) {
  const std::int64_t count = moment.size(0) / block;
  Tensor sum = empty_like_device(moment, {count, block, block}, ScalarType::Double);
  torch::stable::zero_(sum);
  for (const Tensor& weight : weights) {
    const Tensor wide =
        torch::stable::to(torch::stable::to(weight, ScalarType::Double), moment.device());
    const Tensor columns =
        with_swapped(reshaped(wide, {weight.size(0), count, block}), 0, 1);  // [K / g, N, g]
    sum = plus(sum, bmm(with_swapped(columns, 1, 2), columns));
  }
  const Tensor mean = mean_of(diagonal_of(sum));
  // Weights of zeros do not tell channels apart.
  const bool told_apart = value_of(mean) > 0;
  add_to_diagonal(sum, told_apart ? times(mean, number(sum, kWeightDamping)) : number(sum, 1.0));
  return sum;
}

Tensor square_roots(const Tensor& positive) {
  const auto [values, vectors] = decompose("aten::linalg_eigh", positive, std::string("L"));
  const Tensor least = call_aten("aten::clamp_min", "Tensor", values, number(values, 0.0));
  const Tensor scaled =
      times(vectors,
            call_aten("aten::unsqueeze", "", call_aten("aten::sqrt", "", least), std::int64_t{1}));
  return bmm(scaled, with_swapped(vectors, 1, 2));
}

// The ranks, from the largest on, in the order of the places that they go to: every group of four
// gets one of each quarter, each second quarter from its end.
Tensor snake_places(const Tensor& like, std::int64_t block) {
  const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
  const Tensor host = torch::stable::to(empty_like_device(like, {block}, ScalarType::Long), cpu);
  auto* const places = host.mutable_data_ptr<std::int64_t>();
  const std::int64_t quarter = block / kGroup;
  for (std::int64_t place = 0; place < block; ++place) {
    const std::int64_t slot = place % kGroup, step = place / kGroup;
    places[place] = slot * quarter + (slot % 2 == 0 ? step : quarter - 1 - step);
  }
  return torch::stable::to(host, like.device());
}

// The axes, columns of [K / g, g, g], in snake order of their values [K / g, g].
Tensor ordered(const Tensor& axes, const Tensor& values) {
  const std::int64_t block = axes.size(2);
  const Tensor ranked = call_aten("aten::argsort", "stable", values, true, std::int64_t{-1}, true);
  const Tensor order =
      call_aten("aten::index_select", "", ranked, std::int64_t{1}, snake_places(values, block));
  const Tensor columns =
      call_aten("aten::expand", "", call_aten("aten::unsqueeze", "", order, std::int64_t{1}),
                Sizes{axes.size(0), block, block}, false);
  return call_aten("aten::gather", "", axes, std::int64_t{2}, columns, false);
}

// compensate/block_transform.h has the formulas.
Tensor block_transform(const Tensor& second_moment, const std::vector<Tensor>& weights,
                       std::int64_t block) {
  const NoGrad no_grad;
  check(second_moment, weights, block);
  const Tensor moment = torch::stable::to(second_moment, ScalarType::Double);
  const Tensor roots = square_roots(block_grams(weights, block, moment));
  const Tensor inner = bmm(bmm(roots, diagonal_blocks(moment, block)), roots);
  const auto [values, vectors] =
      decompose("aten::linalg_eigh", symmetrised(inner), std::string("L"));
  const Tensor axes = over(bmm(roots, vectors), mean_of(diagonal_of(roots)));
  return torch::stable::to(ordered(axes, values), ScalarType::BFloat16);
}

}  // namespace
}  // namespace rtlynx::ops

STABLE_TORCH_LIBRARY_IMPL(rtlynx, CompositeExplicitAutograd, m) {
  m.impl("block_transform", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::block_transform>::call));
}
