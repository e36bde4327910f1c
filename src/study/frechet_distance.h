// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/libtorch.h"

namespace rtlynx {

/// Frechet distance between the Gaussians of two sets of features [n, F] and [m, F], n, m >= 2:
/// |mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2)), in fp64, with covariances over
/// n - 1 and roots through symmetric eigenvalues. With fewer pictures than features it is biased
/// upwards: compare only sets of equal sizes.
double frechet_distance(const torch::Tensor& a, const torch::Tensor& b);

}  // namespace rtlynx
