// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>

#include "mini/mini_pipeline.h"

namespace rtlynx {

/// Some of a request's pictures, that are drawn at once.
struct DrawnBatch {
  std::size_t first = 0;     ///< index of the first one
  std::size_t pictures = 0;  ///< how many
};

/// A step of a batch, otherwise as VelocityCallback.
using BatchVelocityCallback = std::function<void(
    const DrawnBatch& batch, int step, const FluxInputs& inputs, const torch::Tensor& velocity)>;

}  // namespace rtlynx
