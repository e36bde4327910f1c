// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layers/compensation24.h"
#include "models/produced_input.h"

namespace rtlynx {

/// A transform in two parts, one after the other: what weights before the input can do, and what is
/// left to do at run time.
struct SplitTransform {
  InputTransform folded;
  InputTransform left;
};

/// Of a scale and a permutation: the scale is folded where all channels take a factor, the
/// permutation where it keeps to the channels' blocks. A block transform is left.
SplitTransform split_transform(const ProducedInput& input, const InputTransform& transform);

/// Makes the input's producers give z = folded(x) in place of x, in fp64 rounded to the weights'
/// type, and every reader that is dense or replaced read it. Readers that are compensated have to
/// expect z already. Nothing of it touches a parameter: layers work in mode `replaced`, or with
/// another compensation, until they are set to something else.
void fold_into_producers(const ProducedInput& input, const InputTransform& folded);

/// What became of the transform of an input.
struct FoldedInput {
  std::vector<std::string> readers;  ///< those that are compensated
  InputTransform left;               ///< what is still done at run time
  std::optional<std::string> why;    ///< it was not tried: the reason
};

/// Folds the scales and permutations of a model to which a compensation was applied
/// (apply_compensation) into the weights before them: the same outputs, to rounding, for less work;
/// the same choices but for channels that rounding makes equal. Inputs without a scale or
/// permutation are not listed; one that no weights make (models/produced_input.h), or whose readers
/// choose by different transforms, stays as it is.
///
/// To undo it, apply the compensation anew, or set every layer to `dense`.
std::vector<FoldedInput> fold_transforms(torch::nn::Module& model,
                                         const std::vector<LayerGroup>& groups);

}  // namespace rtlynx
