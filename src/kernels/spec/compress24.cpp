// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/compress24.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/spec/matrix.h"
#include "kernels/spec/scale24.h"
#include "kernels/spec/select24.h"

namespace rtlynx {
namespace {

[[noreturn]] void fail_nibble(std::string_view op, unsigned nibble, std::int64_t row,
                              std::int64_t group) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  fail(op, "nibbles 4, 8, C, 9, D or E",
       std::string(1, kDigits[nibble]) + " at row " + std::to_string(row) + ", group " +
           std::to_string(group));
}

}  // namespace

void check_metadata24(std::string_view op, const std::uint16_t* metadata, std::int64_t tokens,
                      std::int64_t channels) {
  check_channels(op, channels, kWordChannels);
  const std::int64_t words = channels / kWordChannels;
  check_data(op, "metadata", metadata, tokens * words);
  for (std::int64_t m = 0; m < tokens; ++m) {
    for (std::int64_t group = 0; group < channels / kGroup; ++group) {
      const unsigned nibble = nibble_at(metadata + m * words, group);
      const Pair24 pair = from_nibble(nibble);
      if (pair.first >= pair.second) fail_nibble(op, nibble, m, group);
    }
  }
}

void compress24(ConstMatrixView x, Compressed24 out) {
  check_matrix("compress24", "X", x);
  check_channels("compress24", x.columns, kWordChannels);
  check_matrix("compress24", "values", out.values, x.rows, x.columns / 2, x.dtype);
  const std::int64_t words = x.columns / kWordChannels;
  check_data("compress24", "metadata", out.metadata, x.rows * words);
  with_element_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    for (std::int64_t m = 0; m < x.rows; ++m) {
      const T* const token = row_of<T>(x, m);
      compress_row(token, x.columns, row_of<T>(out.values, m), out.metadata + m * words);
      if (out.scale != nullptr) out.scale[m] = token_scale(token, x.columns);
    }
  });
}

void expand24(ConstMatrixView values, const std::uint16_t* metadata, MatrixView x) {
  check_matrix("expand24", "X", x);
  check_channels("expand24", x.columns, kWordChannels);
  check_matrix("expand24", "values", values, x.rows, x.columns / 2, x.dtype);
  check_metadata24("expand24", metadata, x.rows, x.columns);
  const std::int64_t words = x.columns / kWordChannels;
  with_element_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    for (std::int64_t m = 0; m < x.rows; ++m) {
      const T* const kept = row_of<T>(values, m);
      T* const token = row_of<T>(x, m);
      std::fill_n(token, x.columns, T{});
      for (std::int64_t group = 0; group < x.columns / kGroup; ++group) {
        const Pair24 pair = from_nibble(nibble_at(metadata + m * words, group));
        token[group * kGroup + pair.first] = kept[2 * group];
        token[group * kGroup + pair.second] = kept[2 * group + 1];
      }
    }
  });
}

}  // namespace rtlynx
