// SPDX-License-Identifier: Apache-2.0
#include "compensate/spectral.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <string>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kExactSize = 1024;
constexpr std::int64_t kSpareVectors = 16;
constexpr int kPowerSteps = 6;

torch::Tensor symmetrised(const torch::Tensor& a) { return 0.5 * (a + a.t()); }

// eigh orders ascending.
torch::Tensor largest_of(const torch::Tensor& symmetric, std::int64_t count) {
  const torch::Tensor vectors = std::get<1>(torch::linalg_eigh(symmetrised(symmetric)));
  return vectors.narrow(1, vectors.size(1) - count, count).flip(1);
}

void check_count(const SymmetricOperator& a, std::int64_t count) {
  if (count < 1 || count > a.size) {
    fail("top_eigenvectors", "a count from 1 to " + std::to_string(a.size), std::to_string(count));
  }
}

}  // namespace

torch::Tensor solve_damped(const torch::Tensor& a, const torch::Tensor& b, double damping) {
  // Inputs that are always zero have no direction to solve for.
  if (a.count_nonzero().item<std::int64_t>() == 0) return torch::zeros_like(b);
  const torch::Tensor damped =
      symmetrised(a) + damping * a.diagonal().mean() * torch::eye(a.size(0), a.options());
  const auto [factor, info] = torch::linalg_cholesky_ex(damped);
  require(info.item<int>() == 0, "solve_damped",
          "a positive definite matrix once damped by " + std::to_string(damping) +
              " of its mean diagonal",
          "an indefinite one, or one that is not finite");
  return torch::cholesky_solve(b, factor);
}

torch::Tensor top_eigenvectors(const SymmetricOperator& a, std::int64_t count) {
  check_count(a, count);
  if (a.size > kExactSize) return top_eigenvectors_randomised(a, count);
  const auto options = torch::TensorOptions().dtype(torch::kFloat64).device(a.device);
  return largest_of(a.apply(torch::eye(a.size, options)), count);
}

torch::Tensor top_eigenvectors_randomised(const SymmetricOperator& a, std::int64_t count) {
  check_count(a, count);
  const std::int64_t width = std::min(a.size, count + kSpareVectors);
  auto generator = at::detail::createCPUGenerator(/*seed_val=*/0);
  torch::Tensor basis =
      torch::randn({a.size, width}, generator, torch::TensorOptions().dtype(torch::kFloat64))
          .to(a.device);
  // Orthonormal again after each step, or the largest eigenvalue takes over all columns.
  for (int step = 0; step <= kPowerSteps; ++step) {
    basis = std::get<0>(torch::linalg_qr(a.apply(basis)));
  }
  return basis.mm(largest_of(basis.t().mm(a.apply(basis)), count));
}

}  // namespace rtlynx
