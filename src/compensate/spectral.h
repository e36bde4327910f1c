// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/libtorch.h"

namespace rtlynx {

/// (A + damping * mean(diag A) I)^-1 B for a positive semidefinite A [n, n] and B [n, m], fp64, by
/// Cholesky; 0, the smallest solution, for an A of zeros. Throws Error if A is not, to within the
/// damping.
torch::Tensor solve_damped(const torch::Tensor& a, const torch::Tensor& b, double damping);

}  // namespace rtlynx
