// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/libtorch.h"

namespace rtlynx {

/// Qwen-Image's true CFG: `past` [B, C, h, w], a velocity beyond that of the prompt, with every
/// token of patch x patch latents brought back to its norm in `wanted`, the prompt's own velocity.
torch::Tensor with_norms_of(const torch::Tensor& wanted, const torch::Tensor& past,
                            std::int64_t patch);

}  // namespace rtlynx
