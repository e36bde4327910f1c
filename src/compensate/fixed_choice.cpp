// SPDX-License-Identifier: Apache-2.0
#include "compensate/fixed_choice.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "compensate/low_rank.h"
#include "compensate/second_moment.h"

namespace rtlynx {
namespace {

// The axes [g, g/2] of z = x A with the larger eigenvalues. weight [N, g], moment [g, g].
torch::Tensor strong_axes(const torch::Tensor& weight, const torch::Tensor& moment) {
  const auto [gains, directions] = torch::linalg_eigh(weight.t().matmul(weight));
  const torch::Tensor root =
      directions.matmul(gains.clamp_min(0).sqrt().diag()).matmul(directions.t());
  const torch::Tensor axes = std::get<1>(torch::linalg_eigh(root.matmul(moment).matmul(root)));
  const std::int64_t channels = weight.size(1);
  return root.matmul(axes.narrow(1, channels - channels / 2, channels / 2));  // eigenvalues ascend
}

}  // namespace

std::int64_t rank_of_half(std::int64_t outputs, std::int64_t inputs) {
  return std::max<std::int64_t>(1, outputs * inputs / (2 * (outputs + inputs)));
}

Replacement fix_low_rank(const torch::Tensor& weight, const torch::Tensor& second_moment) {
  check_moment("fix_low_rank", weight, second_moment);
  const LowRank closest =
      closest_low_rank(weight, second_moment, rank_of_half(weight.size(0), weight.size(1)));
  return {.down = closest.down, .up = closest.up};
}

Replacement fix_half_of_axes(const torch::Tensor& weight, const torch::Tensor& second_moment,
                             std::int64_t block) {
  check_moment("fix_half_of_axes", weight, second_moment);
  const std::int64_t inputs = weight.size(1);
  require(block >= 2 && block % 2 == 0 && inputs % block == 0, "fix_half_of_axes",
          "an even block that divides K = " + std::to_string(inputs), std::to_string(block));
  const torch::Tensor wide = weight.detach().to(torch::kFloat64);
  std::vector<torch::Tensor> blocks;
  for (std::int64_t first = 0; first < inputs; first += block) {
    blocks.push_back(strong_axes(wide.narrow(1, first, block),
                                 second_moment.narrow(0, first, block).narrow(1, first, block)));
  }
  const torch::Tensor axes = torch::block_diag(blocks);  // P [K, K/2]
  const torch::Tensor seen = axes.t().matmul(second_moment);
  const torch::Tensor refitted =
      torch::linalg_pinv(seen.matmul(axes), /*rcond=*/1e-12, /*hermitian=*/true)
          .matmul(seen.matmul(wide.t()));  // W'^T [K/2, N]
  return {.axes = torch::stack(blocks), .weight = refitted.t().contiguous()};
}

}  // namespace rtlynx
