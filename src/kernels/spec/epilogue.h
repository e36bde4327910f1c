// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "base/half.h"
#include "kernels/spec/activation.h"
#include "kernels/spec/arguments.h"
#include "kernels/spec/matrix.h"
#include "rtlynx/product24.h"

/// From a sum to an element of Y. Product: Product24 or WeightProduct24.
namespace rtlynx {

template <typename T, typename Product>
float bias_of(const Product& product, std::int64_t n) {
  if (product.bias == nullptr) return 0.0f;
  return product.bias_dtype == DType::f32 ? static_cast<const float*>(product.bias)[n]
                                          : to_float(static_cast<const T*>(product.bias)[n]);
}

template <typename T, typename Product>
T finish(const Product& product, std::int64_t m, std::int64_t n, float scale, float sum) {
  float value = std::fma(scale, sum, bias_of<T>(product, n));
  if (product.activation == Activation::gelu) value = gelu_tanh(value);
  if (product.gate.rows > 0) {
    value *= to_float(row_of<T>(product.gate, image_of(m, product.image_tokens))[n]);
  }
  if (product.residual.rows > 0) value += to_float(row_of<T>(product.residual, m)[n]);
  return from_float<T>(value);
}

}  // namespace rtlynx
