// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/weight24.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/half.h"
#include "kernels/spec/arguments.h"
#include "kernels/spec/epilogue.h"
#include "kernels/spec/matrix.h"
#include "kernels/spec/select24.h"

namespace rtlynx {
namespace {

template <typename Body>
void with_weight_type(DType dtype, Body body) {
  if (dtype == DType::e4m3) return body(E4m3{});
  with_element_type(dtype, body);
}

/// Throws unless at most two of each four of W [N, K] are not zero.
template <typename T>
void check_pattern(std::string_view op, ConstMatrixView w) {
  for (std::int64_t n = 0; n < w.rows; ++n) {
    for (std::int64_t k = 0; k < w.columns; k += kGroup) {
      const T* const group = row_of<T>(w, n) + k;
      const auto kept =
          std::count_if(group, group + kGroup, [](T value) { return to_float(value) != 0.0f; });
      if (kept <= 2) continue;
      fail(op, "at most 2 of 4 weights that are not zero",
           std::to_string(kept) + " at row " + std::to_string(n) + ", group " +
               std::to_string(k / kGroup));
    }
  }
}

/// x W~^T + low up^T of token m, output n.
template <typename T, typename Value>
float sum_of(const DenseInput24& input, const WeightProduct24& product, std::int64_t m,
             std::int64_t n) {
  const Value* const x = row_of<Value>(input.x, m);
  const Value* const kept = row_of<Value>(product.values, n);
  const std::uint16_t* const metadata = product.metadata + n * (input.x.columns / kWordChannels);
  float sum = 0.0f;
  for (std::int64_t group = 0; group < input.x.columns / kGroup; ++group) {
    const Pair24 pair = from_nibble(nibble_at(metadata, group));
    const Value* const four = x + group * kGroup;
    sum += to_float(four[pair.first]) * to_float(kept[2 * group]);
    sum += to_float(four[pair.second]) * to_float(kept[2 * group + 1]);
  }
  for (std::int64_t r = 0; r < product.up.columns; ++r) {
    sum += to_float(row_of<T>(input.low, m)[product.low_column + r]) *
           to_float(row_of<T>(product.up, n)[r]);
  }
  return sum;
}

float scale_at(const float* scale, std::int64_t index) {
  return scale == nullptr ? 1.0f : scale[index];
}

/// T: element type; Value: the same, or E4m3.
template <typename T, typename Value>
void multiply(const DenseInput24& input, const WeightProduct24& product) {
  for (std::int64_t m = 0; m < input.x.rows; ++m) {
    for (std::int64_t n = 0; n < product.values.rows; ++n) {
      const float unit = scale_at(input.scale, m) * scale_at(product.scale, n);
      const float sum = sum_of<T, Value>(input, product, m, n);
      row_of<T>(product.y, m)[n] = finish<T>(product, m, n, unit, sum);
    }
  }
}

}  // namespace

void compress_weight24(ConstMatrixView w, Compressed24 out) {
  constexpr const char* kOp = "compress_weight24";
  check_matrix(kOp, "W", w);
  check_channels(kOp, w.columns, kWordChannels);
  check_matrix(kOp, "values", out.values, w.rows, w.columns / 2, w.dtype);
  const std::int64_t words = w.columns / kWordChannels;
  check_data(kOp, "metadata", out.metadata, w.rows * words);
  require(out.scale == nullptr, kOp, "no scale of a weight", "one");
  with_weight_type(w.dtype, [&](auto element) {
    using T = decltype(element);
    check_pattern<T>(kOp, w);
    for (std::int64_t n = 0; n < w.rows; ++n) {
      compress_row(row_of<T>(w, n), w.columns, row_of<T>(out.values, n), out.metadata + n * words);
    }
  });
}

void weight_product24(const DenseInput24& input, std::span<const WeightProduct24> products) {
  constexpr const char* kOp = "weight_product24";
  if (products.empty()) return;
  const bool is_e4m3 = input.x.dtype == DType::e4m3;
  const PackedShape shape{.tokens = input.x.rows,
                          .channels = input.x.columns,
                          .low = input.low,
                          .dtype = is_e4m3 ? products.front().y.dtype : input.x.dtype,
                          .value_dtype = input.x.dtype};
  check_matrix(kOp, "X", input.x);
  check_channels(kOp, shape.channels, kWordChannels);
  for (const WeightProduct24& product : products) {
    check_weight_product24(kOp, shape, product);
    check_metadata24(kOp, product.metadata, product.values.rows, shape.channels);
  }
  with_element_type(shape.dtype, [&](auto element) {
    using T = decltype(element);
    for (const WeightProduct24& product : products) {
      is_e4m3 ? multiply<T, E4m3>(input, product) : multiply<T, T>(input, product);
    }
  });
}

}  // namespace rtlynx
