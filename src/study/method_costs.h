// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "study/layer_cost.h"

namespace rtlynx {

/// What one kind of method makes of a linear layer's cost.
struct MethodCost {
  std::string method;
  double relative_flops = 1;  ///< multiplications relative to dense
  std::optional<double> us;   ///< on an H200 in bf16; nothing where no kernel takes the layer
  std::optional<double> relative_us;  ///< relative to dense
  std::string source;                 ///< of the time, as LayerCost says it
};

/// Of a layer that alone reads its input: dense; activation 2:4 and weight 2:4, each without and
/// with a low rank of `rank` (left out where it is 0), activations also behind blocks of 64
/// channels; the fixed choices of half the multiplications. Blocks of 64 are left out where they do
/// not divide the channels. Throws Error for a size below 1.
std::vector<MethodCost> method_costs(const LayerWork& work, std::int64_t rank);

}  // namespace rtlynx
