// SPDX-License-Identifier: Apache-2.0
#include "compensate/low_rank.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "compensate/second_moment.h"

namespace rtlynx {

LowRank closest_low_rank(const torch::Tensor& matrix, const torch::Tensor& second_moment,
                         std::int64_t rank) {
  check_moment("closest_low_rank", matrix, second_moment);
  const std::int64_t outputs = matrix.size(0), most = std::min(outputs, matrix.size(1));
  if (rank < 1 || rank > most) {
    fail("closest_low_rank", "a rank from 1 to " + std::to_string(most), std::to_string(rank));
  }
  const torch::Tensor wide = matrix.detach().to(torch::kFloat64);
  const torch::Tensor gram = wide.matmul(second_moment).matmul(wide.t());
  // Eigenvalues ascend.
  const torch::Tensor vectors = std::get<1>(torch::linalg_eigh(0.5 * (gram + gram.t())));
  const torch::Tensor up = vectors.narrow(1, outputs - rank, rank).contiguous();
  return {.down = up.t().matmul(wide), .up = up};
}

}  // namespace rtlynx
