// SPDX-License-Identifier: Apache-2.0
#include "options/number.h"

#include <fmt/format.h>

#include <string>

#include "base/number.h"
#include "io/text.h"

namespace rtlynx::options {
namespace {

// The largest bounds are nobody's choice, and saying them says nothing.
template <typename T>
std::string range_text(T min, T max) {
  return max == std::numeric_limits<T>::max() ? fmt::format("of at least {}", min)
                                              : fmt::format("from {} to {}", min, max);
}

std::string complaint(std::string_view required, const std::string& text) {
  return fmt::format("required {}, got {}", required, in_quotes(text));
}

// The text is written anew in plain decimal, which every later reading of it takes alike.
template <typename T>
CLI::Validator whole_number_of(T min, T max, const std::string& range) {
  const auto check = [=](std::string& text) {
    const auto value = parse_whole_number<T>(text);
    if (!value || *value < min || *value > max) {
      return complaint("a decimal whole number " + range, text);
    }
    text = std::to_string(*value);
    return std::string();
  };
  return CLI::Validator(check, range);
}

CLI::Validator number_where(const std::function<bool(double)>& allowed, const std::string& range) {
  const auto check = [=](std::string& text) {
    const auto value = parse_number(text);
    return value && allowed(*value) ? std::string()
                                    : complaint("a finite decimal number " + range, text);
  };
  return CLI::Validator(check, range);
}

}  // namespace

CLI::Validator whole_number(std::int64_t min, std::int64_t max) {
  return whole_number_of(min, max, range_text(min, max));
}

CLI::Validator seed() {
  constexpr std::uint64_t kLargest = std::numeric_limits<std::uint64_t>::max();
  return whole_number_of<std::uint64_t>(0, kLargest, "from 0 to 2^64 - 1");
}

CLI::Validator number(double min, double max) {
  return number_where([=](double value) { return value >= min && value <= max; },
                      range_text(min, max));
}

CLI::Validator positive_number(double max) {
  const bool bounded = max < std::numeric_limits<double>::max();
  return number_where([=](double value) { return value > 0 && value <= max; },
                      bounded ? fmt::format("above 0, up to {}", max) : "above 0");
}

}  // namespace rtlynx::options
