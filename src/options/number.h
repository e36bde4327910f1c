// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>

namespace rtlynx::options {

/// For CLI::Option::transform, of every option that takes a number: what is no number or outside of
/// the bounds is refused while the command line is parsed, before anything is done with it.

/// A decimal whole number from `min` to `max`: 010 is ten, 0x10 and 1e3 are no such numbers.
CLI::Validator whole_number(std::int64_t min,
                            std::int64_t max = std::numeric_limits<std::int64_t>::max());

/// A seed: a decimal whole number from 0 to 2^64 - 1.
CLI::Validator seed();

/// A finite decimal number from `min` to `max`.
CLI::Validator number(double min, double max);

/// The same, but more than 0.
CLI::Validator positive_number(double max = std::numeric_limits<double>::max());

}  // namespace rtlynx::options
