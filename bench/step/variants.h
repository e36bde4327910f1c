// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "models/layer_group.h"
#include "models/recipe.h"
#include "rtlynx/gpu/device.h"

/// How a full-size step runs: which layers are 2:4-sparse, and with what.
namespace rtlynx::benchmark {

struct StepVariant {
  std::string name;
  bool every_layer = false;     // every block layer that gains, else those of the paper that do
  bool sparse = false;          // else all dense
  int rank = 64;                // of each sparse layer
  int transform_block = 0;      // blocks before the choice; 0: none
};

/// dense, paper, paper-block64, best-block64.
const std::vector<StepVariant>& step_variants();

/// Tokens of each stream of a step.
struct StepTokens {
  std::int64_t image = 0;
  std::int64_t text = 0;

  std::int64_t of(TokenStream stream) const {
    return stream == TokenStream::image ? image : stream == TokenStream::text ? text : image + text;
  }
};

/// The groups that run sparse: a group is sparse or dense as a whole, and sparse only where its pack
/// and product are faster than a dense product of as many tokens.
std::vector<const LayerGroup*> sparse_groups(const StepVariant& variant,
                                             const std::vector<LayerGroup>& groups,
                                             const StepTokens& tokens,
                                             const gpu::DeviceTraits& device);

/// Sets the variant's form on all of the model's Linears, with random low ranks and orthogonal
/// blocks: they take the time that fitted ones take.
void apply(const StepVariant& variant, const std::vector<const LayerGroup*>& sparse,
           const torch::nn::Module& model);

}  // namespace rtlynx::benchmark
