// SPDX-License-Identifier: Apache-2.0
#include "layers/linear_form.h"

#include <vector>

#include "rtlynx/limits.h"

namespace rtlynx {

torch::Tensor padded_rank(const torch::Tensor& matrix, std::int64_t dimension) {
  const std::int64_t missing = -matrix.size(dimension) & (kRankMultiple - 1);
  if (missing == 0) return matrix;
  std::vector<std::int64_t> sizes = matrix.sizes().vec();
  sizes[static_cast<std::size_t>(dimension)] = missing;
  return torch::cat({matrix, torch::zeros(sizes, matrix.options())}, dimension);
}

}  // namespace rtlynx
