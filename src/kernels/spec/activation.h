// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

namespace rtlynx {

/// GELU by the tanh formula: v (1 + tanh u) / 2 = v / (1 + exp(-2 u)). Far below zero it is 0 in
/// fp32, and -infinity would be divided by infinity.
inline float gelu_tanh(float v) {
  const float u = 0.7978845608f * v * (1.0f + 0.044715f * v * v);
  return v < -64.0f ? -0.0f : v / (1.0f + std::exp(-2.0f * u));
}

/// v sigmoid(v), likewise.
inline float silu(float v) { return v < -128.0f ? -0.0f : v / (1.0f + std::exp(-v)); }

}  // namespace rtlynx
