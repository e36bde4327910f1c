// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "kernels/in_double.h"
#include "kernels/test_input.h"

namespace rtlynx {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct MeanAndRate {
  double mean;
  double rate;
};

MeanAndRate moments_in_double(const std::vector<double>& row, Norm norm, double eps) {
  const auto count = static_cast<double>(row.size());
  double mean = 0.0, squares = 0.0;
  for (const double value : row) mean += norm == Norm::layer ? value / count : 0.0;
  for (const double value : row) squares += (value - mean) * (value - mean) / count;
  return {mean, 1.0 / std::sqrt(squares + eps)};
}

/// The row's moments are right but for one rounding to fp32, and what fp64 sums lose.
void expect_moments(const float* moments, const std::vector<double>& row, Norm norm, double eps) {
  const auto [mean, rate] = moments_in_double(row, norm, eps);
  EXPECT_NEAR(moments[0], mean, 2 * kFp32 * std::fabs(mean) + 1e-12);
  EXPECT_NEAR(moments[1], rate, 2 * kFp32 * rate);
}

template <typename T>
class RowsTest : public ::testing::Test {};
TYPED_TEST_SUITE(RowsTest, ElementTypes);

TYPED_TEST(RowsTest, MomentsAreTheMeanAndTheRate) {
  auto far_from_zero = normal_matrix<TypeParam>(3, 64, 2);
  for (auto& element : far_from_zero.data) {
    element = from_float<TypeParam>(to_float(element) + 200.0f);
  }
  TestMatrix<TypeParam> zeros(2, 8);
  zeros.fill([] { return TypeParam{}; });
  for (const TestMatrix<TypeParam>& x :
       {normal_matrix<TypeParam>(3, 1000, 1), far_from_zero, zeros,
        normal_matrix<TypeParam>(2, 16, 3, 1e-3f), normal_matrix<TypeParam>(5, 1, 4)}) {
    for (const Norm norm : {Norm::layer, Norm::rms}) {
      for (const float eps : {1e-6f, 1e-2f}) {
        std::vector<float> found(static_cast<std::size_t>(2 * x.rows));
        moments({.x = x.view(), .norm = norm, .eps = eps, .moments = found.data()});
        for (std::int64_t m = 0; m < x.rows; ++m) {
          expect_moments(&found[static_cast<std::size_t>(2 * m)], widened(x, m), norm, eps);
        }
      }
    }
  }
}

/// ResidualNorm with what it points at, and its results. What has no elements is left out.
template <typename T>
struct TestRows {
  TestMatrix<T> x;
  TestMatrix<T> y{0, 0};
  TestMatrix<T> gate{0, 0};
  bool tanh_gate = false;
  std::vector<T> post_weight = {};
  std::int64_t image_tokens = 0;
  Norm norm = Norm::layer;
  std::vector<T> weight = {};
  TestMatrix<T> scale{0, 0};
  TestMatrix<T> shift{0, 0};
  TestMatrix<T> h{x.rows, x.columns};
  TestMatrix<T> normed{x.rows, x.columns};
  std::vector<float> moments = std::vector<float>(static_cast<std::size_t>(2 * x.rows));

  ResidualNorm arguments() {
    return {.x = x.view(),
            .y = y.view(),
            .gate = gate.view(),
            .tanh_gate = tanh_gate,
            .post_weight = post_weight.empty() ? nullptr : post_weight.data(),
            .post_eps = 1e-3f,
            .image_tokens = image_tokens,
            .h = h.view(),
            .norm = norm,
            .eps = 1e-2f,
            .moments = moments.data(),
            .weight = weight.empty() ? nullptr : weight.data(),
            .scale = scale.view(),
            .shift = shift.view(),
            .normed = normed.view()};
  }

  void run() {
    residual_norm(arguments());
    EXPECT_TRUE(h.gaps_untouched() && normed.gaps_untouched());
  }

  std::int64_t image(std::int64_t m) const { return image_tokens == 0 ? 0 : m / image_tokens; }
};

/// x + g * p
template <typename T>
std::vector<Expected> residual_in_double(const TestRows<T>& rows) {
  std::vector<Expected> expected;
  for (std::int64_t m = 0; m < rows.x.rows; ++m) {
    double rate = 1.0;
    if (!rows.post_weight.empty()) {
      rate = moments_in_double(widened(rows.y, m), Norm::rms, 1e-3f).rate;
    }
    for (std::int64_t k = 0; k < rows.x.columns; ++k) {
      double branch = rows.y.rows > 0 ? rows.y.value(m, k) * rate : 0.0;
      if (!rows.post_weight.empty()) {
        branch *= to_float(rows.post_weight[static_cast<std::size_t>(k)]);
      }
      if (rows.gate.rows > 0) {
        const double gate = rows.gate.value(rows.image(m), k);
        branch *= rows.tanh_gate ? std::tanh(gate) : gate;
      }
      const double h = rows.x.value(m, k) + branch;
      expected.push_back({h, 8 * kFp32 * std::fabs(branch) + kFp32 * std::fabs(h)});
    }
  }
  return expected;
}

/// (h - mean) * rate * weight * (1 + scale) + shift, of the h that was written.
template <typename T>
std::vector<Expected> norm_in_double(const TestRows<T>& rows) {
  std::vector<Expected> expected;
  for (std::int64_t m = 0; m < rows.x.rows; ++m) {
    const auto [mean, rate] = moments_in_double(widened(rows.h, m), rows.norm, 1e-2f);
    for (std::int64_t k = 0; k < rows.x.columns; ++k) {
      const double h = rows.h.value(m, k);
      double factor = rate, shift = 0.0;
      if (!rows.weight.empty()) factor *= to_float(rows.weight[static_cast<std::size_t>(k)]);
      if (rows.scale.rows > 0) factor *= 1.0 + rows.scale.value(rows.image(m), k);
      if (rows.shift.rows > 0) shift = rows.shift.value(rows.image(m), k);
      const double terms = (std::fabs(h) + std::fabs(mean)) * std::fabs(factor) + std::fabs(shift);
      expected.push_back({(h - mean) * factor + shift, 8 * kFp32 * terms});
    }
  }
  return expected;
}

/// With the parts that the bits of `parts` name.
template <typename T>
TestRows<T> random_rows(int parts, std::int64_t image_tokens, Norm norm) {
  const std::int64_t tokens = 5, columns = 24;
  const std::int64_t images = image_tokens == 0 ? 1 : (tokens + image_tokens - 1) / image_tokens;
  const auto rows_if = [&](int bit, std::int64_t rows) { return parts & bit ? rows : 0; };
  TestRows<T> rows{.x = normal_matrix<T>(tokens, columns, 10),
                   .y = normal_matrix<T>(rows_if(1, tokens), columns, 11),
                   .gate = normal_matrix<T>(rows_if(2, images), columns, 12),
                   .tanh_gate = (parts & 4) != 0,
                   .image_tokens = image_tokens,
                   .norm = norm,
                   .scale = normal_matrix<T>(rows_if(8, images), columns, 13),
                   .shift = normal_matrix<T>(rows_if(16, images), columns, 14)};
  if (parts & 32) rows.weight = normal_vector<T>(columns, 15);
  if (parts & 64) rows.post_weight = normal_vector<T>(columns, 16);
  return rows;
}

TYPED_TEST(RowsTest, ResidualAndNormTakeWhatIsGiven) {
  for (const Norm norm : {Norm::layer, Norm::rms}) {
    for (const std::int64_t image_tokens : {0, 2, 100}) {
      for (int parts = 0; parts < 128; ++parts) {
        SCOPED_TRACE("parts " + std::to_string(parts) + ", " + std::to_string(image_tokens) +
                     " tokens an image, norm " + std::to_string(static_cast<int>(norm)));
        auto rows = random_rows<TypeParam>(parts, image_tokens, norm);
        if (rows.y.rows == 0) rows.post_weight.clear();  // of y
        rows.run();
        if (rows.y.rows == 0) {
          ASSERT_EQ(all_bits(rows.h), all_bits(rows.x));
        } else {
          expect_rounded_once(rows.h, residual_in_double(rows));
        }
        for (std::int64_t m = 0; m < rows.x.rows; ++m) {
          expect_moments(&rows.moments[static_cast<std::size_t>(2 * m)], widened(rows.h, m), norm,
                         1e-2f);
        }
        expect_rounded_once(rows.normed, norm_in_double(rows));
        if (this->HasFailure()) return;
      }
    }
  }
}

TYPED_TEST(RowsTest, WhatIsNotWantedIsNotNeeded) {
  auto rows = random_rows<TypeParam>(127, 2, Norm::layer);
  const auto h = rows.h, normed = rows.normed;  // as before the call
  rows.run();
  for (int wanted = 0; wanted < 8; ++wanted) {
    auto few = random_rows<TypeParam>(127, 2, Norm::layer);
    ResidualNorm arguments = few.arguments();
    if (!(wanted & 1)) arguments.h = {};
    if (!(wanted & 2)) arguments.moments = nullptr;
    if (!(wanted & 4)) arguments.normed = {};
    residual_norm(arguments);
    EXPECT_EQ(all_bits(few.h), all_bits(wanted & 1 ? rows.h : h));
    EXPECT_EQ(few.moments, wanted & 2 ? rows.moments : std::vector<float>(10));
    EXPECT_EQ(all_bits(few.normed), all_bits(wanted & 4 ? rows.normed : normed));
  }
}

TYPED_TEST(RowsTest, TheResidualMayStayInItsPlace) {
  auto rows = random_rows<TypeParam>(127, 2, Norm::rms);
  rows.run();
  auto in_place = random_rows<TypeParam>(127, 2, Norm::rms);
  ResidualNorm arguments = in_place.arguments();
  arguments.h = in_place.x.view();
  residual_norm(arguments);
  EXPECT_EQ(all_bits(in_place.x), all_bits(rows.h));
  EXPECT_EQ(all_bits(in_place.normed), all_bits(rows.normed));
}

// As diffusers does: fp16 stays finite. Other types overflow, NaN stays, and so does an h that is
// x.
TYPED_TEST(RowsTest, OnlyHalvesAreClipped) {
  TestRows<TypeParam> rows{.x = TestMatrix<TypeParam>(1, 8), .y = TestMatrix<TypeParam>(1, 8)};
  const float huge = kDType<TypeParam> == DType::f16 ? 6e4f : 3e38f;
  const float largest = kDType<TypeParam> == DType::f16 ? 65504.0f : kInfinity;
  const float x[] = {huge, -huge, huge, kInfinity, -kInfinity, kNan, kInfinity, 1.0f};
  const float y[] = {huge, -huge, -huge, 1.0f, 1.0f, 1.0f, -kInfinity, 2.0f};
  const float h[] = {largest, -largest, 0.0f, largest, -largest, kNan, kNan, 3.0f};
  for (std::int64_t k = 0; k < 8; ++k) {
    rows.x.at(0, k) = from_float<TypeParam>(x[k]);
    rows.y.at(0, k) = from_float<TypeParam>(y[k]);
  }
  rows.run();
  for (std::int64_t k = 0; k < 8; ++k) {
    if (std::isnan(h[k])) {
      EXPECT_TRUE(std::isnan(rows.h.value(0, k))) << k;
    } else {
      EXPECT_EQ(rows.h.value(0, k), h[k]) << k;
    }
  }
  rows.y = TestMatrix<TypeParam>(0, 0);
  rows.run();
  EXPECT_EQ(all_bits(rows.h), all_bits(rows.x));
}

/// HeadNorm of two images: streams of 3 and 2 tokens, or the first alone.
template <typename T>
struct TestHeads {
  static constexpr std::int64_t kImages = 2, kHeads = 3, kHeadDim = 16, kColumns = 48;
  static constexpr std::int64_t kTokens[] = {3, 2};

  explicit TestHeads(int count) : stream_count(count) {
    for (unsigned i = 0; i < 2; ++i) {
      const std::int64_t rows = kImages * kTokens[i];
      q[i] = normal_matrix<T>(rows, kColumns, 20 + i, 3.0f);
      k[i] = normal_matrix<T>(rows, kColumns, 22 + i);
      v[i] = random_bits_matrix<T>(rows, kColumns, 24 + i);
      q_weight[i] = normal_vector<T>(kHeadDim, 26 + i);
      k_weight[i] = normal_vector<T>(kHeadDim, 28 + i);
    }
    rotation = normal_vector<float>(image_tokens() * kHeadDim, 30);
  }

  std::int64_t image_tokens() const { return stream_count == 1 ? 3 : 5; }

  HeadNorm arguments() {
    HeadNorm problem{.stream_count = stream_count,
                     .images = kImages,
                     .heads = kHeads,
                     .head_dim = kHeadDim,
                     .eps = 1e-2f,
                     .rotation = rotation.empty() ? nullptr : rotation.data()};
    for (int i = 0; i < stream_count; ++i) {
      const auto data_of = [](const std::vector<T>& weight) {
        return weight.empty() ? nullptr : weight.data();
      };
      problem.streams[i] = {.tokens = kTokens[i],
                            .q = q[i].view(),
                            .k = k[i].view(),
                            .v = v[i].view(),
                            .q_weight = data_of(q_weight[i]),
                            .k_weight = data_of(k_weight[i])};
    }
    results.assign(3, TestMatrix<T>(kImages * image_tokens(), kColumns));
    problem.q = results[0].view();
    problem.k = results[1].view();
    problem.v = results[2].view();
    return problem;
  }

  int stream_count;
  TestMatrix<T> q[2] = {{0, 0}, {0, 0}}, k[2] = {{0, 0}, {0, 0}}, v[2] = {{0, 0}, {0, 0}};
  std::vector<T> q_weight[2], k_weight[2];
  std::vector<float> rotation;
  std::vector<TestMatrix<T>> results;  // q, k, v
};

/// Pair (i, i + 1) of a head, whose first channel is `first`: rounded where the definition says so.
template <typename T>
std::pair<T, T> turned_pair(const TestMatrix<T>& x, std::int64_t row, std::int64_t first,
                            std::int64_t i, const std::vector<T>& weight, const float* angles) {
  std::vector<double> head;
  for (std::int64_t k = 0; k < 16; ++k) head.push_back(x.value(row, first + k));
  const auto rate = static_cast<float>(moments_in_double(head, Norm::rms, 1e-2f).rate);
  float pair[2];
  for (std::int64_t j = 0; j < 2; ++j) {
    const float r = to_float(from_float<T>(x.value(row, first + i + j) * rate));
    const float w = weight.empty() ? 1.0f : to_float(weight[static_cast<std::size_t>(i + j)]);
    pair[j] = to_float(from_float<T>(r * w));
  }
  if (angles == nullptr) return {from_float<T>(pair[0]), from_float<T>(pair[1])};
  const float cosine = angles[i], sine = angles[i + 1];
  return {from_float<T>(pair[0] * cosine - pair[1] * sine),
          from_float<T>(pair[1] * cosine + pair[0] * sine)};
}

template <typename T>
void expect_heads(TestHeads<T>& heads) {
  head_norm(heads.arguments());
  std::int64_t target = 0;
  for (std::int64_t image = 0; image < heads.kImages; ++image) {
    for (std::int64_t token = 0; token < heads.image_tokens(); ++token, ++target) {
      const int stream = token < 3 ? 0 : 1;
      const std::int64_t row = stream == 0 ? image * 3 + token : image * 2 + token - 3;
      const float* const angles =
          heads.rotation.empty() ? nullptr : &heads.rotation[static_cast<std::size_t>(token * 16)];
      for (std::int64_t k = 0; k < heads.kColumns; k += 2) {
        const std::int64_t first = k / 16 * 16, i = k % 16;
        const auto q = turned_pair(heads.q[stream], row, first, i, heads.q_weight[stream], angles);
        const auto key =
            turned_pair(heads.k[stream], row, first, i, heads.k_weight[stream], angles);
        ASSERT_EQ(bits_of(heads.results[0].at(target, k)), bits_of(q.first)) << target << " " << k;
        ASSERT_EQ(bits_of(heads.results[0].at(target, k + 1)), bits_of(q.second));
        ASSERT_EQ(bits_of(heads.results[1].at(target, k)), bits_of(key.first));
        ASSERT_EQ(bits_of(heads.results[1].at(target, k + 1)), bits_of(key.second));
      }
      for (std::int64_t k = 0; k < heads.kColumns; ++k) {
        ASSERT_EQ(bits_of(heads.results[2].at(target, k)), bits_of(heads.v[stream].at(row, k)));
      }
    }
  }
  for (const TestMatrix<T>& result : heads.results) EXPECT_TRUE(result.gaps_untouched());
}

TYPED_TEST(RowsTest, HeadsAreNormedTurnedAndJoined) {
  for (const int streams : {1, 2}) {
    TestHeads<TypeParam> heads(streams);
    expect_heads(heads);
    heads.rotation.clear();
    expect_heads(heads);
    heads.q_weight[0].clear();
    heads.k_weight[1].clear();
    expect_heads(heads);
  }
}

TYPED_TEST(RowsTest, ValuesThatAreNotWantedAreNotNeeded) {
  TestHeads<TypeParam> heads(2);
  HeadNorm arguments = heads.arguments();
  arguments.v = {};
  arguments.streams[0].v = arguments.streams[1].v = {};
  head_norm(arguments);
  const auto q = heads.results[0], k = heads.results[1];
  expect_heads(heads);
  EXPECT_EQ(all_bits(heads.results[0]), all_bits(q));
  EXPECT_EQ(all_bits(heads.results[1]), all_bits(k));
}

TYPED_TEST(RowsTest, SwigluIsRoundedOnce) {
  auto gate = normal_matrix<TypeParam>(5, 24, 1, 8.0f);
  const auto up = normal_matrix<TypeParam>(5, 24, 2, 2.0f);
  TestMatrix<TypeParam> y(5, 24);
  swiglu({.gate = gate.view(), .up = up.view(), .y = y.view()});
  std::vector<Expected> expected;
  for (std::int64_t m = 0; m < y.rows; ++m) {
    for (std::int64_t k = 0; k < y.columns; ++k) {
      const auto [value, slack] = silu_in_double(gate.value(m, k));
      const double u = up.value(m, k);
      expected.push_back({value * u, (slack + kFp32 * std::fabs(value)) * std::fabs(u)});
    }
  }
  expect_rounded_once(y, expected);
  EXPECT_TRUE(y.gaps_untouched());

  gate.at(0, 0) = from_float<TypeParam>(-kInfinity);
  gate.at(0, 1) = from_float<TypeParam>(kInfinity);
  gate.at(0, 2) = from_float<TypeParam>(kNan);
  swiglu({.gate = gate.view(), .up = up.view(), .y = y.view()});
  EXPECT_EQ(y.value(0, 0), 0.0);
  EXPECT_TRUE(std::isinf(y.value(0, 1)));
  EXPECT_TRUE(std::isnan(y.value(0, 2)));
}

}  // namespace
}  // namespace rtlynx
