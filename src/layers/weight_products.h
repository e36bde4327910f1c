// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "layers/replacement.h"
#include "ops/ops.h"

namespace rtlynx {

/// Linears with 2:4 weights that read one dense input, prepared to run on it as few products. Each
/// weight is packed once; the low ranks of all read the input in one dense product before.
class WeightProducts {
 public:
  /// A layer whose result is number `member`. `bias` [N]: that of the layer, or undefined. False,
  /// and nothing is added, where no kernel takes it: without a GPU of compute capability 9.0, in
  /// fp32, with axes, or with sizes and ranks beyond rtlynx/limits.h.
  bool add(std::size_t member, const Replacement& replacement, const torch::Tensor& bias,
           ops::Activation activation);

  bool empty() const { return products_.empty(); }

  /// Fewer tokens than this multiply faster with the pruned weight as a dense one.
  static constexpr std::int64_t kLeastTokens = 1024;

  /// z [B, S, K] -> results [B, S, N_i], into those that are defined.
  void run(const torch::Tensor& z, std::vector<torch::Tensor>& results) const;

  /// The results that run() gives.
  std::vector<std::size_t> members() const;

 private:
  /// At most as many and as much low rank as go into one product.
  struct Product {
    torch::Tensor down;  // [sum of r, K], or undefined
    std::vector<ops::WeightLayer> layers;
    std::vector<std::size_t> members;
  };

  std::vector<Product> products_;
};

}  // namespace rtlynx
