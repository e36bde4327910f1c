// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

#include "base/half.h"
#include "rtlynx/compress24.h"
#include "rtlynx/matrix.h"

namespace rtlynx {

template <typename T>
inline constexpr DType kDType = DType::f32;
template <>
inline constexpr DType kDType<Half> = DType::f16;
template <>
inline constexpr DType kDType<BFloat16> = DType::bf16;

template <typename T>
using BitsOf = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>;
template <typename T>
BitsOf<T> bits_of(T value) {
  return std::bit_cast<BitsOf<T>>(value);
}
template <typename T>
T from_bits(std::uint32_t bits) {
  return std::bit_cast<T>(static_cast<BitsOf<T>>(bits));
}
template <typename T>
inline constexpr std::uint32_t kInfinityBits = 0x7f800000u >> (32 - 8 * sizeof(T));
template <>
inline constexpr std::uint32_t kInfinityBits<Half> = 0x7c00u;
template <typename T>
inline constexpr std::uint32_t kSignBit = 1u << (8 * sizeof(T) - 1);

/// A matrix that owns its elements, with room between the rows that nobody may touch.
template <typename T>
struct TestMatrix {
  static constexpr std::int64_t kGap = 3;

  TestMatrix(std::int64_t matrix_rows, std::int64_t matrix_columns)
      : rows(matrix_rows),
        columns(matrix_columns),
        data(static_cast<std::size_t>(rows * (columns + kGap)), canary()) {}

  static T canary() { return from_bits<T>(0xabcd5a5au); }

  T& at(std::int64_t m, std::int64_t k) {
    return data[static_cast<std::size_t>(m * (columns + kGap) + k)];
  }
  const T& at(std::int64_t m, std::int64_t k) const {
    return data[static_cast<std::size_t>(m * (columns + kGap) + k)];
  }
  float value(std::int64_t m, std::int64_t k) const { return to_float(at(m, k)); }
  const T* row(std::int64_t m) const { return &at(m, 0); }

  MatrixView view() { return {data.data(), kDType<T>, rows, columns, columns + kGap}; }
  ConstMatrixView view() const { return {data.data(), kDType<T>, rows, columns, columns + kGap}; }

  bool gaps_untouched() const {
    for (std::int64_t m = 0; m < rows; ++m) {
      for (std::int64_t k = columns; k < columns + kGap; ++k) {
        if (bits_of(at(m, k)) != bits_of(canary())) return false;
      }
    }
    return true;
  }

  template <typename Generate>
  void fill(Generate generate) {
    for (std::int64_t m = 0; m < rows; ++m) {
      for (std::int64_t k = 0; k < columns; ++k) at(m, k) = generate();
    }
  }

  std::int64_t rows;
  std::int64_t columns;
  std::vector<T> data;
};

template <typename T>
TestMatrix<T> normal_matrix(std::int64_t rows, std::int64_t columns, unsigned seed,
                            float deviation = 1.0f) {
  TestMatrix<T> matrix(rows, columns);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  matrix.fill([&] { return from_float<T>(normal(random)); });
  return matrix;
}

/// Uniform over bit patterns: every exponent, subnormals, infinities, NaN of every payload.
template <typename T>
TestMatrix<T> random_bits_matrix(std::int64_t rows, std::int64_t columns, unsigned seed) {
  TestMatrix<T> matrix(rows, columns);
  std::mt19937 random(seed);
  matrix.fill([&] { return from_bits<T>(static_cast<std::uint32_t>(random())); });
  return matrix;
}

template <typename T>
TestMatrix<T> integer_matrix(std::int64_t rows, std::int64_t columns, unsigned seed, int largest) {
  TestMatrix<T> matrix(rows, columns);
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> integer(-largest, largest);
  matrix.fill([&] { return from_float<T>(static_cast<float>(integer(random))); });
  return matrix;
}

/// What compress24 gives for a matrix.
template <typename T>
struct CompressedMatrix {
  explicit CompressedMatrix(const TestMatrix<T>& x)
      : values(x.rows, x.columns / 2),
        metadata(static_cast<std::size_t>(x.rows * x.columns / 16), 0xabcd),
        scale(static_cast<std::size_t>(x.rows)) {
    compress24(x.view(),
               {.values = values.view(), .metadata = metadata.data(), .scale = scale.data()});
  }

  TestMatrix<T> values;
  std::vector<std::uint16_t> metadata;
  std::vector<float> scale;
};

/// The bits of the elements, gaps left out.
template <typename T>
std::vector<BitsOf<T>> all_bits(const TestMatrix<T>& matrix) {
  std::vector<BitsOf<T>> bits;
  for (std::int64_t m = 0; m < matrix.rows; ++m) {
    for (std::int64_t k = 0; k < matrix.columns; ++k) bits.push_back(bits_of(matrix.at(m, k)));
  }
  return bits;
}

using ElementTypes = ::testing::Types<float, Half, BFloat16>;

}  // namespace rtlynx
