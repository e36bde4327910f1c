// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>

#include "base/error.h"
#include "compensate/second_moment.h"
#include "compensate/weight24.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kGroup = 4;
constexpr std::int64_t kBlock = 128;  // columns whose errors reach later columns in one product
constexpr double kDamping = 0.01;     // of the mean diagonal

// Upper triangular U with U^T U = H^-1. Row i of it says how column i's error is shared out.
torch::Tensor inverse_root(torch::Tensor hessian) {
  const double mean = hessian.diagonal().mean().item<double>();
  hessian.diagonal().add_(kDamping * mean);
  const torch::Tensor inverse = torch::cholesky_inverse(torch::linalg_cholesky(hessian));
  return torch::linalg_cholesky(inverse, /*upper=*/true);
}

// Prunes columns `first` to `last` of `weight` in place -> their errors [N, last - first].
torch::Tensor prune_block(torch::Tensor& weight, const torch::Tensor& root, std::int64_t first,
                          std::int64_t last) {
  std::vector<torch::Tensor> errors;
  torch::Tensor mask;
  for (std::int64_t i = first; i < last; ++i) {
    if (i % kGroup == 0) {
      const torch::Tensor pivots = root.diagonal().narrow(0, i, kGroup);
      mask = keep_two_of_four((weight.narrow(1, i, kGroup) / pivots).square());
    }
    torch::Tensor column = weight.select(1, i);
    const torch::Tensor kept = column * mask.select(1, i % kGroup);
    const torch::Tensor error = (column - kept) / root.index({i, i});
    column.copy_(kept);
    if (i + 1 < last) {
      weight.narrow(1, i + 1, last - i - 1)
          .sub_(torch::outer(error, root.select(0, i).narrow(0, i + 1, last - i - 1)));
    }
    errors.push_back(error);
  }
  return torch::stack(errors, /*dim=*/1);
}

}  // namespace

PrunedWeight prune_by_sparse_gpt(const torch::Tensor& weight, const torch::Tensor& second_moment) {
  check_moment("prune_by_sparse_gpt", weight, second_moment);
  const std::int64_t inputs = weight.size(1);
  require(inputs % kGroup == 0, "prune_by_sparse_gpt", "a weight [N, K] with K divisible by 4",
          std::to_string(inputs) + " input channels");
  torch::Tensor pruned = weight.detach().to(torch::kFloat64, /*non_blocking=*/false, /*copy=*/true);
  torch::Tensor hessian = 2 * second_moment;
  const torch::Tensor dead = hessian.diagonal() == 0;
  hessian.diagonal().masked_fill_(dead, 1.0);
  pruned.masked_fill_(dead.unsqueeze(0), 0.0);
  const torch::Tensor root = inverse_root(hessian);
  for (std::int64_t first = 0; first < inputs; first += kBlock) {
    const std::int64_t last = std::min(inputs, first + kBlock);
    const torch::Tensor errors = prune_block(pruned, root, first, last);
    if (last == inputs) break;
    pruned.narrow(1, last, inputs - last)
        .sub_(errors.matmul(root.narrow(0, first, last - first).narrow(1, last, inputs - last)));
  }
  return {.sparse = pruned, .order = {}, .low_rank = {}};
}

}  // namespace rtlynx
