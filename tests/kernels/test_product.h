// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/test_input.h"
#include "rtlynx/product24.h"

namespace rtlynx {

inline float spread(std::int64_t terms) {
  return 1.0f / std::sqrt(static_cast<float>(std::max<std::int64_t>(terms, 1)));
}

/// Product24 with what it points at. Rank 0 and the plain epilogue unless given.
template <typename T>
struct TestProduct {
  TestMatrix<T> weight;
  TestMatrix<T> up{0, 0};
  std::int64_t low_column = 0;
  std::vector<float> bias = {};
  std::vector<T> element_bias = {};  // instead
  Activation activation = Activation::none;
  TestMatrix<T> gate{0, 0};
  std::int64_t image_tokens = 0;
  TestMatrix<T> residual{0, 0};

  Product24 arguments(TestMatrix<T>& y) const {
    const void* own_bias = bias.empty() ? nullptr : bias.data();
    if (!element_bias.empty()) own_bias = element_bias.data();
    return {.weight = weight.view(),
            .up = up.view(),
            .low_column = low_column,
            .bias = own_bias,
            .bias_dtype = element_bias.empty() ? DType::f32 : kDType<T>,
            .activation = activation,
            .gate = gate.view(),
            .image_tokens = image_tokens,
            .residual = residual.view(),
            .y = y.view()};
  }

  TestMatrix<T> run(TestPacked<T>& packed) const {
    TestMatrix<T> y(packed.values.rows, weight.rows);
    const Product24 product = arguments(y);
    product24(packed.arguments(), {&product, 1});
    EXPECT_TRUE(y.gaps_untouched());
    return y;
  }
};

template <typename T>
TestProduct<T> random_product(std::int64_t outputs, std::int64_t channels, std::int64_t rank,
                              unsigned seed = 32) {
  return {.weight = normal_matrix<T>(outputs, channels, seed, spread(channels)),
          .up = normal_matrix<T>(outputs, rank, seed + 1, spread(rank)),
          .bias = normal_vector<float>(outputs, seed + 2)};
}

}  // namespace rtlynx
