// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/pack24.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/scale24.h"
#include "kernels/cpu/select24.h"

namespace rtlynx {
namespace {

constexpr int kWordChannels = 16;  // one metadata word

// x [K] -> values [K/2], metadata [K/16]
template <typename T>
void pack_token(const T* x, std::int64_t channels, T* values, std::uint16_t* metadata) {
  std::fill_n(metadata, channels / kWordChannels, std::uint16_t{0});
  for (std::int64_t group = 0; group < channels / kGroup; ++group) {
    const T* const source = x + group * kGroup;
    const Pair24 pair = select24(source);
    values[2 * group] = source[pair.first];
    values[2 * group + 1] = source[pair.second];
    metadata[group / 4] |= static_cast<std::uint16_t>(to_nibble(pair) << (4 * (group % 4)));
  }
}

[[noreturn]] void fail_nibble(unsigned nibble, std::int64_t row, std::int64_t group) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  fail("unpack24", "nibbles 4, 8, C, 9, D or E",
       std::string(1, kDigits[nibble]) + " at row " + std::to_string(row) + ", group " +
           std::to_string(group));
}

}  // namespace

void pack24(ConstMatrixView x, Packed24 out) {
  check_matrix("pack24", "X", x);
  check_channels("pack24", x.columns, kWordChannels);
  check_matrix("pack24", "values", out.values, x.rows, x.columns / 2, x.dtype);
  const std::int64_t words = x.columns / kWordChannels;
  check_data("pack24", "metadata", out.metadata, x.rows * words);
  with_element_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    for (std::int64_t m = 0; m < x.rows; ++m) {
      const T* const token = row_of<T>(x, m);
      pack_token(token, x.columns, row_of<T>(out.values, m), out.metadata + m * words);
      if (out.scale != nullptr) out.scale[m] = token_scale(token, x.columns);
    }
  });
}

void unpack24(ConstMatrixView values, const std::uint16_t* metadata, MatrixView x) {
  check_matrix("unpack24", "X", x);
  check_channels("unpack24", x.columns, kWordChannels);
  check_matrix("unpack24", "values", values, x.rows, x.columns / 2, x.dtype);
  const std::int64_t words = x.columns / kWordChannels;
  check_data("unpack24", "metadata", metadata, x.rows * words);
  with_element_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    for (std::int64_t m = 0; m < x.rows; ++m) {
      const T* const kept = row_of<T>(values, m);
      T* const token = row_of<T>(x, m);
      std::fill_n(token, x.columns, T{});
      for (std::int64_t group = 0; group < x.columns / kGroup; ++group) {
        const unsigned nibble = nibble_at(metadata + m * words, group);
        const Pair24 pair = from_nibble(nibble);
        if (pair.first >= pair.second) fail_nibble(nibble, m, group);
        token[group * kGroup + pair.first] = kept[2 * group];
        token[group * kGroup + pair.second] = kept[2 * group + 1];
      }
    }
  });
}

}  // namespace rtlynx
