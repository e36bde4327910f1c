// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "base/libtorch.h"
#include "compensate/low_rank.h"
#include "layers/replacement.h"

namespace rtlynx {

// The published ways to make *weights* 2:4 sparse, as rivals of sparse activations. Each takes a
// weight W [N, K] and the second moment C [K, K] of its inputs (compensate/second_moment.h), works
// in fp64, and in every row keeps two of each four consecutive input channels. Equal scores keep
// the lower channel. All throw Error if 4 does not divide K or the shapes do not fit.

/// A Linear's weight with half of its entries removed: y = x (sparse + up down)^T.
struct PrunedWeight {
  torch::Tensor sparse;  // [N, K] fp64
  /// [K] int64, or undefined. The groups of four are those of the channels in this order:
  /// sparse.index_select(1, order) has the pattern, and x is permuted likewise at run time.
  torch::Tensor order;
  LowRank low_rank;

  /// What a dense Linear would need to give the same outputs: [N, K] fp64.
  torch::Tensor effective() const;

  /// Multiplications relative to the dense product: 1/2 + r (K + N) / (K N). The permutation of x
  /// is not counted.
  double relative_flops() const;

  /// What a layer runs: a sparse weight, and the low rank. Throws Error where channels are
  /// reordered.
  Replacement replacement() const;
};

/// Score |W_ij|.
PrunedWeight prune_by_magnitude(const torch::Tensor& weight);

/// Wanda (arXiv 2306.11695): score |W_ij| ||X_j||.
PrunedWeight prune_by_wanda(const torch::Tensor& weight, const torch::Tensor& second_moment);

enum class ChannelOrder { as_it_is, snake };

/// RIA (ICLR 2024, "Plug-and-Play"): score (|W_ij| / sum_i |W_ij| + |W_ij| / sum_j |W_ij|)
/// ||X_j||^(1/2). With `snake`, its channel reallocation: channels are ranked by the column sums of
/// the score, so that every group of four gets one channel of each quarter (snake_order).
PrunedWeight prune_by_ria(const torch::Tensor& weight, const torch::Tensor& second_moment,
                          ChannelOrder order = ChannelOrder::as_it_is);

/// The exponents t of (|W_ij| / ||W_:j||^t1 + |W_ij| / ||W_i:||^t2) ||X_j||^t3, with L2 norms.
/// (0, 0, 1) is Wanda.
using BawaExponents = std::array<double, 3>;

struct BawaSearch {
  int evaluations = 32;
  std::uint64_t seed = 0;
};

/// "BaWA-style": a reconstruction. BaWA (ICML 2025) publishes no code; its reviews tell of weights
/// normalised by the L2 norms of their channels, a power of the activation norm, and a search
/// without gradients. The search here is a (1+1) evolution strategy on the output's error that
/// starts from Wanda, and so is never worse than it on the tokens behind the moment.
PrunedWeight prune_bawa_style(const torch::Tensor& weight, const torch::Tensor& second_moment,
                              const BawaExponents& exponents);
BawaExponents search_bawa_exponents(const torch::Tensor& weight, const torch::Tensor& second_moment,
                                    const BawaSearch& search = {});

/// SparseGPT (arXiv 2301.00774): the weights that are kept make up for those that go, column by
/// column, through U = upper Cholesky factor of (2 C + damping)^-1; a group's two entries with the
/// least W^2 / U_jj^2 go. Channels that no token uses lose their weights. Damping is a hundredth of
/// the mean diagonal.
PrunedWeight prune_by_sparse_gpt(const torch::Tensor& weight, const torch::Tensor& second_moment);

/// SLiM's sparse part (arXiv 2410.09615): Wanda's mask m; a low rank LR from SVD_r((W - m W) D)
/// D^-1 with D = diag(||X_j||); then the kept weights are derived again, m (W - LR), so that sparse
/// + LR equals W wherever a weight is kept. Channels with a norm of zero take the least norm that
/// is not zero. `rank` 0 is SLiM's own, a tenth of min(N, K).
PrunedWeight prune_by_slim(const torch::Tensor& weight, const torch::Tensor& second_moment,
                           std::int64_t rank = 0);

/// `pruned` with the closest low rank to what it lost of `weight` (EoRA on any pruning).
PrunedWeight with_low_rank(PrunedWeight pruned, const torch::Tensor& weight,
                           const torch::Tensor& second_moment, std::int64_t rank);

/// Mask (bool) of scores [N, K]: two of every four consecutive columns, the higher ones.
torch::Tensor keep_two_of_four(const torch::Tensor& scores);

/// Positions of channels so that strong and weak ones share groups: sorted by `importance` [K],
/// cut into quarters, quarter q fills slot q of every group of four, every second one backwards.
/// Position p takes channel order[p].
torch::Tensor snake_order(const torch::Tensor& importance);

}  // namespace rtlynx
