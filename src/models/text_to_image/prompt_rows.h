// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "base/libtorch.h"
#include "models/text_to_image/model.h"

namespace rtlynx {

/// One feature of every prompt, all of one shape: [B, ...].
torch::Tensor stacked(const std::vector<PromptFeatures>& features, const char* name);

/// One feature of every prompt in the rows of one tensor, zeros behind the shorter ones.
struct PromptRows {
  torch::Tensor rows;                 // [B, L, d]
  std::vector<std::int64_t> lengths;  // B, at most L
};

/// The feature is [L_i, d].
PromptRows padded(const std::vector<PromptFeatures>& features, const char* name);

/// 1000 sigma for B pictures as diffusers' pipelines of FLUX.1 and Qwen-Image give it to the
/// transformer: rounded to the type of `options`, the transformer's inputs', then divided by 1000.
/// [B]
torch::Tensor rounded_time(const DenoiserInput& input, const torch::TensorOptions& options);

}  // namespace rtlynx
