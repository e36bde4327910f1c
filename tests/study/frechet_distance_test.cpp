// SPDX-License-Identifier: Apache-2.0
#include "study/frechet_distance.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr std::int64_t kFeatures = 6;

torch::Tensor normals(std::int64_t count, std::uint64_t seed) {
  torch::manual_seed(seed);
  return torch::randn({count, kFeatures}, torch::kFloat64);
}

// Samples whose mean and covariance are exactly 0 and 1, so that those of their images are known.
torch::Tensor whitened(std::int64_t count, std::uint64_t seed) {
  const torch::Tensor x = normals(count, seed);
  const torch::Tensor centred = x - x.mean(0);
  const torch::Tensor covariance = centred.t().matmul(centred) / static_cast<double>(count - 1);
  return torch::linalg_solve_triangular(torch::linalg_cholesky(covariance), centred.t(),
                                        /*upper=*/false)
      .t();
}

TEST(FrechetDistance, IsZeroForOneSet) {
  const torch::Tensor x = normals(40, 1);
  EXPECT_NEAR(frechet_distance(x, x), 0, 1e-10);
  EXPECT_NEAR(frechet_distance(x, x.flip(0)), 0, 1e-10);  // the order does not count
}

TEST(FrechetDistance, OfKnownGaussians) {
  const torch::Tensor x = whitened(200, 2), y = whitened(300, 3);
  const torch::Tensor scale = torch::tensor({1.0, 2.0, 3.0, 0.5, 1.5, 0.0}, torch::kFloat64);
  const torch::Tensor shift = torch::tensor({1.0, 0.0, -2.0, 0.0, 0.0, 0.5}, torch::kFloat64);
  // Covariances that commute: sum of (shift^2 + (1 - scale)^2).
  const double wanted = (shift.square() + (1 - scale).square()).sum().item<double>();
  // The root of a rounding error stays where a scale is zero.
  EXPECT_NEAR(frechet_distance(x, y * scale + shift), wanted, 1e-7);
}

TEST(FrechetDistance, IsSymmetricAlsoWhereCovariancesDoNotCommute) {
  const torch::Tensor x = normals(50, 4).matmul(normals(kFeatures, 5));
  const torch::Tensor y = normals(60, 6).matmul(normals(kFeatures, 7)) + 1;
  EXPECT_NEAR(frechet_distance(x, y), frechet_distance(y, x), 1e-8);
  // tr((C1 C2)^(1/2)) from the eigenvalues of the product itself.
  const auto covariance = [](const torch::Tensor& t) {
    return (t - t.mean(0)).t().matmul(t - t.mean(0)) / static_cast<double>(t.size(0) - 1);
  };
  const torch::Tensor eigenvalues =
      torch::real(torch::linalg_eigvals(covariance(x).matmul(covariance(y))));
  const double wanted = ((x.mean(0) - y.mean(0)).square().sum() + covariance(x).trace() +
                         covariance(y).trace() - 2 * eigenvalues.clamp_min(0).sqrt().sum())
                            .item<double>();
  EXPECT_NEAR(frechet_distance(x, y), wanted, 1e-8);
}

TEST(FrechetDistance, TurningAndShiftingBothChangesNothing) {
  const torch::Tensor x = normals(50, 8), y = 2 * normals(50, 9) + 1;
  const torch::Tensor turn = std::get<0>(torch::linalg_qr(normals(kFeatures, 10)));
  EXPECT_NEAR(frechet_distance(x.matmul(turn) + 3, y.matmul(turn) + 3), frechet_distance(x, y),
              1e-9);
}

TEST(FrechetDistance, WorksWithFewerSamplesThanFeatures) {
  EXPECT_GT(frechet_distance(normals(3, 11), normals(3, 12)), 0);
}

TEST(FrechetDistance, RefusesWhatHasNoCovariance) {
  EXPECT_THROW(frechet_distance(normals(1, 1), normals(5, 1)), Error);
  EXPECT_THROW(frechet_distance(normals(5, 1), torch::zeros({5, kFeatures + 1})), Error);
}

}  // namespace
}  // namespace rtlynx
