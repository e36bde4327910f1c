// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "models/layer_group.h"
#include "models/recipe.h"

namespace rtlynx {

/// Rows of a Linear that make a stretch of channels, one row a channel, in their order.
struct ProducerRows {
  NamedLinear layer;
  std::int64_t first = 0;
  bool takes_scale = true;  ///< a factor on the channel is this factor on (output + offset)
  double offset = 0;        ///< 1 for a modulation's scale, which acts as 1 + scale
};

/// Neighbouring channels of an input that are made alike.
struct ProducedChannels {
  std::int64_t count = 0;
  /// Channels may change places within blocks of so many, counted from the first; 1: not at all.
  std::int64_t order_block = 1;
  bool takes_scale = true;  ///< false behind a GELU: gelu(c x) is not c gelu(x)
  std::vector<ProducerRows> rows;
};

/// An input of Linears whose channels can be scaled, or put in another order, by changing weights
/// before it.
struct ProducedInput {
  std::vector<NamedLinear> readers;
  std::vector<ProducedChannels> channels;  ///< one after the other, all of the input
};

/// The inputs of the groups, those that the same rows make together. What is made by
///  - norm and modulation: a factor goes into the modulation's scale and shift rows. Another order
///    would be one of the residual stream, which the whole model shares: not free.
///  - attention: into the rows of v, of all streams that are mixed. An order within each head.
///  - GELU: no factor; any order, by the up projection's rows.
///  - SwiGLU w2(silu(w1 x) * w3 x): a factor by the rows of w3; any order, by those of w1 and w3.
/// Inputs with a part that is made otherwise are not listed.
std::vector<ProducedInput> produced_inputs(const torch::nn::Module& model,
                                           const std::vector<LayerGroup>& groups);

}  // namespace rtlynx
