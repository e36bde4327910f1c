// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <optional>
#include <string_view>
#include <system_error>

namespace rtlynx {

/// A decimal whole number of type T, all of `text`: digits, after a minus where T has a sign.
/// Leading zeros mean nothing. Nothing for any other text and for what T cannot hold.
template <std::integral T>
std::optional<T> parse_whole_number(std::string_view text) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

/// A finite decimal number, all of `text`, as in 12, -0.5 or 4e-4. Nothing for any other text, nan,
/// inf and what overflows among it.
inline std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

/// a * b, or nothing where T cannot hold it.
template <std::integral T>
constexpr std::optional<T> checked_product(T a, T b) {
  T product{};
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

}  // namespace rtlynx
