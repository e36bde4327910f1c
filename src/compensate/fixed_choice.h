// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/libtorch.h"
#include "layers/replacement.h"

namespace rtlynx {

// Rivals that choose once, for all tokens, what half of the work to leave out. They run as dense
// products of half the size and need no sparse tensor core; online 2:4 has to be better than they
// are to be worth its while. Closed forms of the weight W [N, K] and the second moment C [K, K] of
// its inputs (compensate/second_moment.h), in fp64.

/// The rank r of half the multiplications: r (K + N) = K N / 2, rounded down, at least 1.
std::int64_t rank_of_half(std::int64_t outputs, std::int64_t inputs);

/// The closest low rank to W of rank_of_half(): activation-aware, as in SVD-LLM.
Replacement fix_low_rank(const torch::Tensor& weight, const torch::Tensor& second_moment);

/// Half of the axes of a block transform. For each `block` channels b: V = W_b^T W_b, B = V^(1/2),
/// E = eigenvectors of B C_bb B, A = B E; of z = x A only the axes of the larger eigenvalues are
/// computed, and their weight is refitted to all of x by least squares, W'^T = (P^T C P)^+ P^T C
/// W^T with P [K, K/2] those columns of A. Cost: 1/2 + block / (2 N). With one block of K channels
/// this is fix_low_rank with rank K/2. Throws Error unless `block` is even and divides K.
Replacement fix_half_of_axes(const torch::Tensor& weight, const torch::Tensor& second_moment,
                             std::int64_t block = 64);

}  // namespace rtlynx
