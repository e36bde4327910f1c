// SPDX-License-Identifier: Apache-2.0
#include "compensate/low_rank.h"

#include <tuple>
#include <utility>

#include "compensate/second_moment.h"
#include "ops/ops.h"

namespace rtlynx {

LowRank closest_low_rank(const torch::Tensor& matrix, const torch::Tensor& second_moment,
                         std::int64_t rank) {
  check_moment("closest_low_rank", matrix, second_moment);
  static const auto op = ops::find_op<std::tuple<at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, std::int64_t)>("rtlynx::closest_low_rank");
  auto [down, up] = op.call(matrix.detach().to(torch::kFloat64), second_moment, rank);
  return {.down = std::move(down), .up = std::move(up)};
}

}  // namespace rtlynx
