// SPDX-License-Identifier: Apache-2.0
#include "compensate/spectral.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace rtlynx {
namespace {

// Eigenvalues 1, 1/2, 1/4, ... in a random basis.
torch::Tensor decaying(std::int64_t n) {
  torch::manual_seed(51);
  const torch::Tensor basis = std::get<0>(torch::linalg_qr(torch::randn({n, n}, torch::kFloat64)));
  const torch::Tensor values = torch::pow(0.5, torch::arange(n, torch::kFloat64));
  return basis.mul(values).mm(basis.t());
}

TEST(SolveDamped, AddsAShareOfTheMeanDiagonal) {
  const torch::Tensor a = decaying(6);
  const torch::Tensor b = torch::randn({6, 3}, torch::kFloat64);
  const torch::Tensor damped = a + 0.1 * a.diagonal().mean() * torch::eye(6, torch::kFloat64);
  EXPECT_TRUE(damped.mm(solve_damped(a, b, 0.1)).allclose(b, 1e-9, 1e-9));
}

TEST(SolveDamped, GivesZeroForZeros) {
  const torch::Tensor zero = torch::zeros({3, 3}, torch::kFloat64);
  EXPECT_TRUE(solve_damped(zero, torch::ones({3, 2}, torch::kFloat64), 0.01)
                  .equal(torch::zeros({3, 2}, torch::kFloat64)));
}

TEST(SolveDamped, RefusesAnIndefiniteMatrix) {
  EXPECT_THROW(solve_damped(torch::full({3, 3}, NAN, torch::kFloat64),
                            torch::zeros({3, 1}, torch::kFloat64), 0.01),
               Error);
  EXPECT_THROW(solve_damped(torch::diag(torch::tensor({1.0, -1.0, 1.0}, torch::kFloat64)),
                            torch::zeros({3, 1}, torch::kFloat64), 0.01),
               Error);
}

}  // namespace
}  // namespace rtlynx
