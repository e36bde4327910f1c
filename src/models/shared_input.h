// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/recipe.h"

namespace rtlynx {

/// The name of the input that a Linear of FLUX.1 reads: layers with one name read one tensor, and
/// share its statistics and its transform. q, k and v read one input per stream
/// ("transformer_blocks.0.attn.to_qkv", "...attn.to_added_qkv", after diffusers' fused
/// projections); in a single block proj_mlp reads it too
/// ("single_transformer_blocks.0.to_qkv_mlp"). Every other layer reads its own, by its own name.
std::string input_group(const std::string& layer);

/// True if the channels of this layer's input can change places at no cost: an MLP's down
/// projection, whose input is made, channel by channel, by the rows of the up projection.
bool input_order_is_free(const std::string& layer);

/// The layers that read one input.
struct SharedInput {
  std::string name;
  std::vector<NamedLinear> layers;

  std::int64_t channels() const { return layers.front().linear->in_features(); }
};

/// The layers of `model` that are `wanted`, by input, in the order of registration.
std::vector<SharedInput> input_groups(const torch::nn::Module& model,
                                      const std::function<bool(const std::string& layer)>& wanted);

}  // namespace rtlynx
