// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/test_matrix.h"
#include "rtlynx/pack24.h"

namespace rtlynx {

/// Pack24 with what it points at.
template <typename T>
struct TestInput {
  TestMatrix<T> x;
  TestMatrix<T> tail{0, 0};
  Producer producer = Producer::none;
  TestMatrix<T> up{0, 0};
  std::vector<float> moments = {};
  std::vector<T> weight = {};
  TestMatrix<T> modulation_scale{0, 0};
  TestMatrix<T> modulation_shift{0, 0};
  std::int64_t image_tokens = 0;
  std::vector<T> transform = {};
  int transform_block = 0;
  bool restores_norm = true;
  TestMatrix<T> down{0, 0};

  Pack24 arguments() const {
    return {.x = x.view(),
            .tail = tail.view(),
            .producer = producer,
            .up = up.view(),
            .moments = moments.data(),
            .weight = weight.empty() ? nullptr : weight.data(),
            .modulation_scale = modulation_scale.view(),
            .modulation_shift = modulation_shift.view(),
            .image_tokens = image_tokens,
            .transform = transform.empty() ? nullptr : transform.data(),
            .transform_block = transform_block,
            .restores_norm = restores_norm,
            .down = down.view()};
  }

  /// z, behind producer and transform.
  TestMatrix<T> produced() const {
    TestMatrix<T> z(x.rows, x.columns + tail.columns);
    produce24(arguments(), z.view());
    EXPECT_TRUE(z.gaps_untouched());
    return z;
  }
};

/// What pack24 gives for an input.
template <typename T>
struct TestPacked {
  TestPacked(std::int64_t tokens, std::int64_t channels, std::int64_t low_columns)
      : values(tokens, channels / 2),
        metadata(static_cast<std::size_t>(tokens * channels / 16), 0xabcd),
        scale(static_cast<std::size_t>(tokens), -1.0f),
        low(tokens, low_columns) {}

  explicit TestPacked(const TestInput<T>& input)
      : TestPacked(input.x.rows, input.x.columns + input.tail.columns, input.down.rows) {
    pack24(input.arguments(), arguments());
    EXPECT_TRUE(values.gaps_untouched() && low.gaps_untouched());
  }

  Packed24 arguments() {
    return {.values = values.view(),
            .metadata = metadata.data(),
            .scale = scale.data(),
            .low = low.view()};
  }

  TestMatrix<T> values;
  std::vector<std::uint16_t> metadata;
  std::vector<float> scale;
  TestMatrix<T> low;
};

/// Bits and scales are the same.
template <typename T>
void expect_same(const TestPacked<T>& packed, const TestPacked<T>& expected) {
  EXPECT_EQ(all_bits(packed.values), all_bits(expected.values));
  EXPECT_EQ(packed.metadata, expected.metadata);
  EXPECT_EQ(packed.scale, expected.scale);
  EXPECT_EQ(all_bits(packed.low), all_bits(expected.low));
}

template <typename T>
std::vector<T> normal_vector(std::int64_t count, unsigned seed, float deviation = 1.0f) {
  const TestMatrix<T> row = normal_matrix<T>(1, count, seed, deviation);
  return {row.row(0), row.row(0) + count};
}

/// An input of every producer, all of it drawn at random.
template <typename T>
TestInput<T> random_input(Producer producer, std::int64_t tokens, std::int64_t channels) {
  TestInput<T> input{.x = normal_matrix<T>(tokens, channels, 1, 2.0f), .producer = producer};
  if (producer == Producer::swiglu) input.up = normal_matrix<T>(tokens, channels, 2);
  if (producer == Producer::norm) {
    for (std::int64_t m = 0; m < tokens; ++m) {
      const auto token = static_cast<float>(m);
      input.moments.insert(input.moments.end(), {0.25f - 0.5f * token, 0.3f + token});
    }
    input.weight = normal_vector<T>(channels, 3);
    input.modulation_scale = normal_matrix<T>(1, channels, 4);
    input.modulation_shift = normal_matrix<T>(1, channels, 5);
  }
  return input;
}

}  // namespace rtlynx
