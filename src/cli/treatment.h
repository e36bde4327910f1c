// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/sparse_choice.h"
#include "layers/sparse_linear.h"
#include "models/checkpoint/lora.h"
#include "models/layer_group.h"

namespace rtlynx::cli {

/// Sets the layers of a transformer that was just loaded, whose groups these are: sparse where the
/// treatment asks for it and `choice` allows it. Adds the updates to what they compute. Once for
/// each transformer: updates change its weights.
using LayerSetter = std::function<SparseLayers(
    torch::nn::Module& transformer, const std::vector<LayerGroup>& groups,
    const SparseChoice& choice, const LowRankUpdates& updates)>;

/// What is drawn beside dense: a mode of the recipe's layers, or a compensation file.
struct Treatment {
  std::string name;
  std::string file;  ///< of the compensation; empty for a mode
  LayerSetter set_layers;
};

/// The layers that the paper sparsifies in this mode, all others dense.
Treatment of_mode(LinearMode mode);

/// Throws Error for a file that cannot be read. Updates become a low rank beside its layers;
/// `with_dense`: their own weights, which mode `dense` reads, take them in as well.
Treatment of_file(const std::string& file, bool with_dense);

/// Switches a transformer between its layers' modes and dense ones.
class LayerModes {
 public:
  /// The modes as they are.
  explicit LayerModes(const torch::nn::Module& transformer);

  /// Sets them again.
  void restore(const torch::nn::Module& transformer) const;

 private:
  std::vector<LinearMode> modes_;  // in the order of named_linears
};

}  // namespace rtlynx::cli
