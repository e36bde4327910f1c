// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/libtorch.h"
#include "compensate/low_rank.h"
#include "compensate/moments.h"

namespace rtlynx {

/// Least squares for a Linear whose product reads S in place of its input X: over the tokens of the
/// moments, ||X W^T - (S W'^T + (X L_down^T) L_up^T)||^2 is minimised over some of W', L_down,
/// L_up. Cxx, Cxs, Css are the moments. Everything is fp64, on the moments' device; where there is
/// a transform, X, S and W are those of the transformed channels.
///
/// `damping` is the share of a moment's mean diagonal added to its diagonal before it is inverted:
/// the fit is held back in directions that hardly occur.
inline constexpr double kDamping = 0.01;

/// What multiplies S, and X, in fp64.
struct LayerFit {
  torch::Tensor weight;  // W' [N, K]
  LowRank low_rank;      // L_down [r, K], L_up [N, r] with orthonormal columns, or none
};

/// W' = W; the low rank that the paper trains by SGD, as reduced-rank regression:
///   M = (Cxx + damping)^-1 (Cxx - Cxs) W^T, V = top r eigenvectors of M^T Cxx M,
///   L_down = (M V)^T, L_up = V.
LayerFit low_rank_on_input(const InputMoments& moments, const torch::Tensor& weight,
                           std::int64_t rank, double damping = kDamping);

/// W' alone, at no cost in use, by ridge regression towards W (towards 0 loses energy):
///   W'^T = W^T + (Css + damping)^-1 (Csx - Css) W^T.
LayerFit refit(const InputMoments& moments, const torch::Tensor& weight, double damping = kDamping);

/// Both at once, the global optimum up to damping: r directions of the output are computed from
/// all of X, the rest from S with refitted weights.
///   H = I + (Css + damping)^-1 (Csx - Css), P = Cxx - Cxs H - H^T Csx + H^T Css H,
///   V = top r eigenvectors of W P W^T, L_down = V^T W, L_up = V, W'^T = H (W^T - W^T V V^T).
LayerFit refit_with_low_rank(const InputMoments& moments, const torch::Tensor& weight,
                             std::int64_t rank, double damping = kDamping);

/// ||X W^T - (S W'^T + X L_down^T L_up^T)|| / ||X W^T|| over the moments' tokens; 0 for an output
/// that is always 0.
double relative_output_error(const InputMoments& moments, const torch::Tensor& weight,
                             const LayerFit& fit);

/// The share of the output's energy that refit_with_low_rank cannot recover:
///   (tr(W P W^T) - sum of its r largest eigenvalues) / tr(W Cxx W^T), from 0 to 1.
double unrecoverable_share(const InputMoments& moments, const torch::Tensor& weight,
                           std::int64_t rank, double damping = kDamping);

}  // namespace rtlynx
