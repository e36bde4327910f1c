// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>

namespace rtlynx {

/// (A + damping * mean(diag A) I)^-1 B for a positive semidefinite A [n, n] and B [n, m], fp64, by
/// Cholesky; 0, the smallest solution, for an A of zeros. Throws Error if A is not, to within the
/// damping.
torch::Tensor solve_damped(const torch::Tensor& a, const torch::Tensor& b, double damping);

/// A symmetric positive semidefinite operator on R^n: Q [n, m] -> A Q [n, m], fp64.
struct SymmetricOperator {
  std::int64_t size = 0;
  torch::Device device = torch::kCPU;
  std::function<torch::Tensor(const torch::Tensor&)> apply;
};

/// Orthonormal vectors [n, count] of the largest eigenvalues, which descend. Exact up to n = 1024;
/// above, a randomised range finder with a fixed seed, 16 spare vectors and 6 power steps (arXiv
/// 0909.4061), since a full decomposition in fp64 takes minutes there. Throws Error for a count
/// outside of [1, n].
torch::Tensor top_eigenvectors(const SymmetricOperator& a, std::int64_t count);

/// The range finder for any n.
torch::Tensor top_eigenvectors_randomised(const SymmetricOperator& a, std::int64_t count);

}  // namespace rtlynx
