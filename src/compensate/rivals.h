// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/libtorch.h"
#include "compensate/moments.h"
#include "layers/compensation24.h"
#include "layers/replacement.h"

namespace rtlynx {

/// What a layer may do in place of sparse activations, in a mixed choice.
enum class RivalMethod {
  sparse_gpt,           ///< prune_by_sparse_gpt
  sparse_gpt_low_rank,  ///< the same, with the closest low rank to what it lost
  fixed_low_rank,       ///< fix_low_rank
  fixed_half,           ///< fix_half_of_axes
};

inline constexpr std::array<RivalMethod, 4> kRivalMethods = {
    RivalMethod::sparse_gpt, RivalMethod::sparse_gpt_low_rank, RivalMethod::fixed_low_rank,
    RivalMethod::fixed_half};

/// The names that evaluations have: "sparsegpt", "sparsegpt+lora", "fixed-low-rank", "fixed-half".
std::string_view to_string(RivalMethod method);

/// The inverse of to_string. Throws UsageError for any other text.
RivalMethod rival_method_from_string(std::string_view text);

/// The second moment [K, K] of x, from the moments of z = x A: A^-T (Z^T Z / n) A^-1.
torch::Tensor input_second_moment(const InputMoments& moments, const InputTransform& transform);

/// A rival's layer in bf16, as a file holds it.
struct RivalSolution {
  Replacement values;
  double error = 0;  ///< relative_output_error over the calibration's tokens, rounding included
};

/// `second_moment` is of the layer's input x. Nothing where the method cannot be: fixed_half needs
/// K divisible by its block.
std::optional<RivalSolution> solve_rival(RivalMethod method, const torch::Tensor& weight,
                                         const torch::Tensor& second_moment, std::int64_t rank);

}  // namespace rtlynx
