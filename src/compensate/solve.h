// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compensate/closed_form.h"
#include "layers/compensation24.h"
#include "models/shared_input.h"

namespace rtlynx {

/// What makes up for the dropped channels.
enum class CompensationMethod {
  naive,     ///< nothing
  norm,      ///< the token's norm
  low_rank,  ///< low_rank_on_input
  refit,     ///< refit
  joint,     ///< refit_with_low_rank
};

/// The names for the command line and for files: "naive", "norm", "low-rank", "refit", "joint".
std::string_view to_string(CompensationMethod method);
std::vector<std::string> compensation_method_names();

/// The inverse of to_string. Throws UsageError for any other text.
CompensationMethod compensation_method_from_string(std::string_view text);

/// What happens to the channels before the choice.
struct TransformChoice {
  enum class Kind {
    none,
    block,    ///< block_transform
    columns,  ///< column_norm_transform
    permute,  ///< the same, with the permutation where the input's order is free
  };
  Kind kind = Kind::none;
  std::int64_t block = 0;  ///< of Kind::block

  /// Whether it depends on the inputs' second moments, and not on the weights alone.
  bool needs_moments() const { return kind == Kind::block || kind == Kind::permute; }
};

/// "none", "block 64", "columns", "permute".
std::string to_string(const TransformChoice& choice);

/// Takes none, 4, 16, 64, 128, columns, permute. Throws UsageError for any other text.
TransformChoice transform_choice_from_string(std::string_view text);

/// The transform of a group's input. `second_moment` [K, K] may be undefined if the choice does not
/// need it.
InputTransform choose_transform(const TransformChoice& choice, const SharedInput& group,
                                const torch::Tensor& second_moment);

struct SolveOptions {
  CompensationMethod method = CompensationMethod::joint;
  bool norm = false;       ///< S = s x~; `naive` and `norm` have their own way
  std::int64_t rank = 16;  ///< of low_rank and joint
  double damping = kDamping;
  bool e4m3 = false;  ///< kept values and weights are rounded to e4m3 where they run
};

/// Whether the method multiplies by s.
bool uses_norm(const SolveOptions& options);

/// The rank of the method's low rank, 0 without.
std::int64_t rank_of(const SolveOptions& options);

/// 2 % of the hidden size, rounded up to a multiple of 16: 64 at d = 3072, 16 up to d = 800.
std::int64_t default_rank(std::int64_t hidden_dim);

/// A layer's compensation, in bf16 as a file holds it, and what it is expected to do.
struct LayerSolution {
  Compensation24 values;
  double error_before = 0;   ///< relative_output_error without compensation
  double error = 0;          ///< relative_output_error with `values`
  double unrecoverable = 0;  ///< unrecoverable_share at the rank, or the default one without
};

/// `moments` are of z and S for these options and this transform; `weight` [N, K] is the layer's
/// own.
LayerSolution solve_layer(const InputMoments& moments, const InputTransform& transform,
                          const torch::Tensor& weight, const SolveOptions& options);

}  // namespace rtlynx
