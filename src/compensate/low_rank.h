// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/libtorch.h"

namespace rtlynx {

/// x [.., K] -> (x down^T) up^T [.., N].
struct LowRank {
  torch::Tensor down;  // [r, K], fp64; undefined if there is none
  torch::Tensor up;    // [N, r], fp64

  bool defined() const { return down.defined(); }
  std::int64_t rank() const { return defined() ? down.size(0) : 0; }
  torch::Tensor product() const { return up.matmul(down); }  // [N, K]
};

/// The `rank` directions that explain most of the output x M^T of a matrix M [N, K]: the minimum of
/// tr((M - up down) C (M - up down)^T), exact up to min(N, K) = 1024.
/// Above, a randomised range finder with a fixed seed, 16 spare vectors and 6 power steps (arXiv
/// 0909.4061), since a full decomposition in fp64 takes minutes there.
///
/// With C = T T^T it is SVD_r(M T) T^-1 (EoRA, QERA-exact, SVD-LLM). Its left singular vectors U
/// are the leading eigenvectors of M C M^T, and U U^T M T T^-1 = U U^T M, so that neither the root
/// of C nor an inverse is needed: up = U, down = U^T M. Throws Error for a rank outside of
/// [1, min(N, K)].
LowRank closest_low_rank(const torch::Tensor& matrix, const torch::Tensor& second_moment,
                         std::int64_t rank);

}  // namespace rtlynx
