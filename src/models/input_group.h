// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace rtlynx {

/// The name of the input that a Linear of FLUX.1 reads: layers with one name read one tensor, and
/// share its statistics and its transform. q, k and v read one input per stream
/// ("transformer_blocks.0.attn.to_qkv", "...attn.to_added_qkv", after diffusers' fused
/// projections); in a single block proj_mlp reads it too
/// ("single_transformer_blocks.0.to_qkv_mlp"). Every other layer reads its own, by its own name.
std::string input_group(const std::string& layer);

}  // namespace rtlynx
