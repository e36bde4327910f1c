// SPDX-License-Identifier: Apache-2.0
#include "study/frechet_distance.h"

#include <algorithm>
#include <sstream>

#include "base/error.h"

namespace rtlynx {
namespace {

struct Gaussian {
  torch::Tensor mean;        // [F]
  torch::Tensor covariance;  // [F, F]
};

Gaussian fit(const torch::Tensor& features) {
  const torch::Tensor wide = features.to(torch::kFloat64);
  const torch::Tensor mean = wide.mean(0);
  const torch::Tensor centred = wide - mean;
  return {.mean = mean,
          .covariance = centred.t().matmul(centred) / static_cast<double>(wide.size(0) - 1)};
}

// Of a positive semidefinite matrix.
torch::Tensor root(const torch::Tensor& matrix) {
  const auto [values, vectors] = torch::linalg_eigh(matrix);
  return vectors.matmul(values.clamp_min(0).sqrt().diag()).matmul(vectors.t());
}

}  // namespace

double frechet_distance(const torch::Tensor& a, const torch::Tensor& b) {
  const bool fits =
      a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(1) && a.size(0) >= 2 && b.size(0) >= 2;
  if (!fits) {
    std::ostringstream arrived;
    arrived << a.sizes() << " and " << b.sizes();
    fail("frechet_distance", "features [n, F] and [m, F] with n, m >= 2", arrived.str());
  }
  const Gaussian one = fit(a), two = fit(b);
  const torch::Tensor half = root(one.covariance);
  const torch::Tensor cross = half.matmul(two.covariance).matmul(half);
  const double mixed =
      torch::linalg_eigvalsh(0.5 * (cross + cross.t())).clamp_min(0).sqrt().sum().item<double>();
  const double means = (one.mean - two.mean).square().sum().item<double>();
  const double spreads = (one.covariance.trace() + two.covariance.trace()).item<double>();
  return std::max(0.0, means + spreads - 2 * mixed);
}

}  // namespace rtlynx
