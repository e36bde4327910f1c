// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/test_matrix.h"

/// The formulas in double, to compare the specifications with.
namespace rtlynx {

inline constexpr double kFp32 = 0x1p-24;       // the rounding error of one operation
inline constexpr double kVanishes = 0x1p-120;  // what fp32 may lose of a GELU or SiLU below zero

/// An element before its one rounding, and how far fp32 may take it from there.
struct Expected {
  double value;
  double slack;
};

/// A unit in the last place of a value of this type.
template <typename T>
double unit_at(double value) {
  constexpr int kBits = sizeof(T) == 4 ? 23 : kDType<T> == DType::f16 ? 10 : 7;
  constexpr int kLeast = kDType<T> == DType::f16 ? -14 : -126;
  int exponent = 0;
  std::frexp(value, &exponent);
  return std::ldexp(1.0, std::max(exponent - 1, kLeast) - kBits);
}

template <typename T>
void expect_rounded_once(const TestMatrix<T>& matrix, const std::vector<Expected>& expected) {
  ASSERT_EQ(static_cast<std::size_t>(matrix.rows * matrix.columns), expected.size());
  auto next = expected.begin();
  for (std::int64_t m = 0; m < matrix.rows; ++m) {
    for (std::int64_t k = 0; k < matrix.columns; ++k) {
      const auto [value, slack] = *next++;
      ASSERT_NEAR(matrix.value(m, k), value, unit_at<T>(std::fabs(value) + slack) / 2 + slack)
          << "row " << m << ", column " << k;
    }
  }
}

/// GELU by the tanh formula. exp makes |u| relative errors of one of u.
inline Expected gelu_in_double(double x) {
  const double u = std::sqrt(2.0 / std::numbers::pi) * x * (1.0 + 0.044715 * x * x);
  const double value = x / (1.0 + std::exp(-2.0 * u));
  return {value, (16 + 16 * std::fabs(u)) * kFp32 * std::fabs(value) + kVanishes};
}

inline Expected silu_in_double(double x) {
  const double value = x / (1.0 + std::exp(-x));
  return {value, (8 + 2 * std::fabs(x)) * kFp32 * std::fabs(value) + kVanishes};
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

inline double dot_of_magnitudes(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::fabs(a[i] * b[i]);
  return sum;
}

template <typename T>
std::vector<double> widened(const TestMatrix<T>& matrix, std::int64_t row) {
  std::vector<double> values;
  for (std::int64_t k = 0; k < matrix.columns; ++k) values.push_back(matrix.value(row, k));
  return values;
}

}  // namespace rtlynx
