// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/product24.h"

#include <cmath>
#include <vector>

#include "base/half.h"
#include "kernels/spec/arguments.h"
#include "kernels/spec/epilogue.h"
#include "kernels/spec/matrix.h"
#include "kernels/spec/select24.h"

namespace rtlynx {
namespace {

/// The kept elements of a token in channel order: z~ without its zeros.
struct Kept {
  std::vector<float> values;           // [K/2]
  std::vector<std::int64_t> channels;  // [K/2]
};

template <typename Value>
Kept kept_of(const Packed24& packed, std::int64_t m) {
  const Value* const values = row_of<Value>(packed.values, m);
  const std::uint16_t* const metadata = packed.metadata + m * (packed.values.columns / 8);
  Kept kept;
  for (std::int64_t i = 0; i < packed.values.columns; ++i) {
    const Pair24 pair = from_nibble(nibble_at(metadata, i / 2));
    kept.values.push_back(to_float(values[i]));
    kept.channels.push_back(i / 2 * kGroup + (i % 2 == 0 ? pair.first : pair.second));
  }
  return kept;
}

/// z~ W^T + (H / unit) up^T of token m, output n.
template <typename T, typename Value>
float sum_of(const Kept& kept, ConstMatrixView low, const Product24& product, std::int64_t m,
             std::int64_t n) {
  const Value* const weight = row_of<Value>(product.weight, n);
  float sum = 0.0f;
  for (std::size_t i = 0; i < kept.values.size(); ++i) {
    sum += kept.values[i] * to_float(weight[kept.channels[i]]);
  }
  for (std::int64_t r = 0; r < product.up.columns; ++r) {
    sum +=
        to_float(row_of<T>(low, m)[product.low_column + r]) * to_float(row_of<T>(product.up, n)[r]);
  }
  return sum;
}

void raise(float& largest, float magnitude) {
  if (std::isnan(magnitude) || magnitude > largest) largest = magnitude;
}

/// All products; Value: T, or E4m3.
template <typename T, typename Value>
void multiply(const Packed24& packed, std::span<const Product24> products) {
  for (std::int64_t m = 0; m < packed.values.rows; ++m) {
    const Kept kept = kept_of<Value>(packed, m);
    for (const Product24& product : products) {
      for (std::int64_t n = 0; n < product.weight.rows; ++n) {
        const float sum = sum_of<T, Value>(kept, packed.low, product, m, n);
        const T y = finish<T>(product, m, n, packed.scale[m], sum);
        row_of<T>(product.y, m)[n] = y;
        if (product.largest != nullptr) raise(product.largest[m], std::fabs(to_float(y)));
      }
    }
  }
}

}  // namespace

void product24(const Packed24& packed, std::span<const Product24> products) {
  constexpr const char* kOp = "product24";
  const bool is_e4m3 = packed.values.dtype == DType::e4m3;
  if (products.empty()) return;
  const PackedShape shape{.tokens = packed.values.rows,
                          .channels = 2 * packed.values.columns,
                          .low = packed.low,
                          .dtype = is_e4m3 ? products.front().y.dtype : packed.values.dtype,
                          .value_dtype = packed.values.dtype};
  check_matrix(kOp, "values", packed.values);
  check_metadata24(kOp, packed.metadata, shape.tokens, shape.channels);
  check_data(kOp, "scale", packed.scale, shape.tokens);
  for (const Product24& product : products) check_product24(kOp, shape, product);
  with_element_type(shape.dtype, [&](auto element) {
    using T = decltype(element);
    is_e4m3 ? multiply<T, E4m3>(packed, products) : multiply<T, T>(packed, products);
  });
}

}  // namespace rtlynx
