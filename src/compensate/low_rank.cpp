// SPDX-License-Identifier: Apache-2.0
#include "compensate/low_rank.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "compensate/second_moment.h"
#include "compensate/spectral.h"

namespace rtlynx {

LowRank closest_low_rank(const torch::Tensor& matrix, const torch::Tensor& second_moment,
                         std::int64_t rank) {
  check_moment("closest_low_rank", matrix, second_moment);
  const std::int64_t outputs = matrix.size(0), most = std::min(outputs, matrix.size(1));
  if (rank < 1 || rank > most) {
    fail("closest_low_rank", "a rank from 1 to " + std::to_string(most), std::to_string(rank));
  }
  const torch::Tensor wide = matrix.detach().to(torch::kFloat64);
  if (outputs > wide.size(1)) {
    // M = Q R with orthonormal Q: the leading eigenvectors of M C M^T are Q times those of R C R^T.
    const auto [q, r] = torch::linalg_qr(wide);
    const LowRank core = closest_low_rank(r, second_moment, rank);
    return {.down = core.down, .up = q.matmul(core.up)};
  }
  const SymmetricOperator gram{
      .size = outputs, .device = wide.device(), .apply = [&](const torch::Tensor& q) {
        return wide.matmul(second_moment.matmul(wide.t().matmul(q)));
      }};
  const torch::Tensor up = top_eigenvectors(gram, rank);
  return {.down = up.t().matmul(wide), .up = up};
}

}  // namespace rtlynx
