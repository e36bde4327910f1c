// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "models/layer_group.h"
#include "models/recipe.h"
#include "rtlynx/gpu/device.h"

/// How a full-size step runs: which layers are 2:4-sparse, and with what.
namespace rtlynx::step_benchmark {

struct StepVariant {
  std::string name;
  bool every_layer = false;  // every block layer that gains, else those of the paper that do
  bool sparse = false;       // else all dense
  int rank = 64;             // of each sparse layer
  int transform_block = 0;   // blocks before the choice; 0: none
  bool e4m3 = false;         // kept values and weights of sparse layers are e4m3
  bool weights = false;      // the weights are sparse, pruned by magnitude, and not the inputs
};

/// dense, paper, paper-block64, best-block64, e4m3, weights.
const std::vector<StepVariant>& step_variants();

/// Those of these names, in their order above; none named: all but `weights`, whose weights take
/// memory beside the model's. Throws UsageError for another name.
std::vector<StepVariant> variants_named(const std::vector<std::string>& names);

/// The groups that run sparse: a group is sparse or dense as a whole, and sparse only where its
/// pack and product are faster than a dense product of as many tokens.
std::vector<const LayerGroup*> sparse_groups(const StepVariant& variant,
                                             const std::vector<LayerGroup>& groups,
                                             const StreamTokens& tokens,
                                             const gpu::DeviceTraits& device);

/// Sets the variant's form on all of the model's Linears, with random low ranks and orthogonal
/// blocks: they take the time that fitted ones take.
void apply(const StepVariant& variant, const std::vector<const LayerGroup*>& sparse,
           const torch::nn::Module& model);

}  // namespace rtlynx::step_benchmark
