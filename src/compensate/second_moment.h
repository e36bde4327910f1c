// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "base/libtorch.h"

namespace rtlynx {

// Throughout, `second_moment` is C = X^T X / n [K, K] fp64, over the n tokens X [n, K] that a layer
// read. It is all that the closed forms need of the data: tokens X lose X D^T in the output when a
// weight changes by D [N, K], and the mean square of that is tr(D C D^T).

/// Throws Error, beginning with `op`, unless weight is a floating-point [N, K] and second_moment an
/// fp64 [K, K] on the same device.
void check_moment(std::string_view op, const torch::Tensor& weight,
                  const torch::Tensor& second_moment);

/// Root mean square of every input channel [K], fp64: ||X_j|| / sqrt(n).
torch::Tensor channel_rms(const torch::Tensor& second_moment);

/// E ||x D^T||^2 = tr(D C D^T) for a change D [N, K] of the weight, fp64.
double output_energy(const torch::Tensor& change, const torch::Tensor& second_moment);

/// sqrt(tr(D C D^T) / tr(W C W^T)), D = weight - replacement: the relative error of the layer's
/// output, without bias, over the tokens behind the moment. Zero for a layer without output.
double relative_output_error(const torch::Tensor& weight, const torch::Tensor& replacement,
                             const torch::Tensor& second_moment);

/// exp(-sum p_i ln p_i), p = eigenvalues / trace: how many directions the tokens use (the effective
/// rank of Roy and Vetterli 2007, taken of the second moment). From 1 to K; 0 for a zero moment.
double effective_rank(const torch::Tensor& second_moment);

/// tr(C)^2 / tr(C^2): the same question with squares, which counts weak directions less. Never
/// above effective_rank.
double participation_ratio(const torch::Tensor& second_moment);

}  // namespace rtlynx
