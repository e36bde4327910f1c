// SPDX-License-Identifier: Apache-2.0
// gpu::moments and gpu::residual_norm beside the specifications.
#include "rtlynx/gpu/rows.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "gpu/graph.h"
#include "gpu/matrix.h"
#include "kernels/spec/arguments.h"

namespace rtlynx {
namespace {

using testing::DeviceBuffer;
using testing::DeviceMatrix;
using testing::Elements;
using testing::kNarrowTypes;
using testing::Matrix;
using testing::normal_matrix;
using testing::on_gpu;
using testing::Stream;

constexpr double kFp32 = 0x1p-24;  // the rounding error of one operation
// Of those on the way from the elements of a row to a sum over it, at most: a thread adds 64, then
// come 5 steps of a warp and 16 warps; and some before and behind.
constexpr double kOperations = 128;

constexpr std::int64_t kColumns[] = {8,    16,   40,   72,    512,   1000,  2048,  2056,
                                     3072, 3840, 4096, 10240, 12288, 16384, 20480, 32768};

double mean_magnitude(const Matrix& matrix, std::int64_t row) {
  double sum = 0.0;
  for (std::int64_t k = 0; k < matrix.columns; ++k) sum += std::fabs(matrix.value(row, k));
  return sum / static_cast<double>(matrix.columns);
}

/// Beside the specification's of the same rows.
void expect_moments(const Matrix& x, Norm norm, float eps, const std::vector<float>& found) {
  std::vector<float> expected(found.size());
  moments({.x = x.view(), .norm = norm, .eps = eps, .moments = expected.data()});
  for (std::int64_t m = 0; m < x.rows; ++m) {
    const auto at = static_cast<std::size_t>(2 * m);
    const double mean_error = kOperations * kFp32 * mean_magnitude(x, m);
    ASSERT_NEAR(found[at], expected[at], norm == Norm::rms ? 0.0 : mean_error) << "row " << m;
    const double rate = expected[at + 1];
    ASSERT_NEAR(found[at + 1], rate, rate * (kOperations * kFp32 + std::pow(mean_error * rate, 2)))
        << "row " << m;
  }
}

/// ResidualNorm on the host, with what it points at.
struct HostRows {
  Matrix x;
  Matrix y = {};
  Matrix gate = {};
  bool tanh_gate = false;
  Elements post_weight = {};
  std::int64_t image_tokens = 0;
  Norm norm = Norm::layer;
  Elements weight = {};
  Matrix scale = {};
  Matrix shift = {};

  /// Without results.
  ResidualNorm view() const {
    return {.x = x.view(),
            .y = y.view(),
            .gate = gate.view(),
            .tanh_gate = tanh_gate,
            .post_weight = post_weight.empty() ? nullptr : post_weight.data(),
            .post_eps = 1e-3f,
            .image_tokens = image_tokens,
            .norm = norm,
            .eps = 1e-2f,
            .weight = weight.empty() ? nullptr : weight.data(),
            .scale = scale.view(),
            .shift = shift.view()};
  }
};

/// With the parts that the bits of `parts` name: y, gate, tanh, scale, shift, weight, post weight.
constexpr int kAllParts = 127;
HostRows random_rows(DType dtype, int parts, std::int64_t tokens, std::int64_t columns,
                     std::int64_t image_tokens, Norm norm) {
  const std::int64_t images = image_of(tokens - 1, image_tokens) + 1;
  const auto rows_if = [&](int bit, std::int64_t rows) { return parts & bit ? rows : 0; };
  HostRows rows{.x = normal_matrix(dtype, tokens, columns, 10),
                .y = normal_matrix(dtype, rows_if(1, tokens), columns, 11),
                .gate = normal_matrix(dtype, rows_if(2, images), columns, 12),
                .tanh_gate = (parts & 4) != 0,
                .image_tokens = image_tokens,
                .norm = norm,
                .scale = normal_matrix(dtype, rows_if(8, images), columns, 13, 0.3f),
                .shift = normal_matrix(dtype, rows_if(16, images), columns, 14)};
  if (parts & 32) rows.weight = normal_matrix(dtype, 1, columns, 15).elements;
  if (parts & 64) rows.post_weight = normal_matrix(dtype, 1, columns, 16).elements;
  return rows;
}

/// The same on the GPU, and its results.
class RowsCase {
 public:
  explicit RowsCase(HostRows rows, std::int64_t gap = 0)
      : rows_(std::move(rows)),
        x_(rows_.x, {.gap = gap}),
        y_(rows_.y, {.gap = gap}),
        gate_(rows_.gate, {.gap = gap}),
        scale_(rows_.scale, {.gap = gap}),
        shift_(rows_.shift, {.gap = gap}),
        post_weight_(on_gpu(rows_.post_weight)),
        weight_(on_gpu(rows_.weight)),
        h_(rows_.x.dtype, rows_.x.rows, rows_.x.columns, {.gap = gap}),
        normed_(rows_.x.dtype, rows_.x.rows, rows_.x.columns, {.gap = gap}),
        moments_(static_cast<std::size_t>(rows_.x.rows) * 2 * sizeof(float)) {}

  ResidualNorm problem() const {
    ResidualNorm problem = rows_.view();
    problem.x = x_.view();
    problem.y = y_.view();
    problem.gate = gate_.view();
    problem.scale = scale_.view();
    problem.shift = shift_.view();
    if (!rows_.post_weight.empty()) problem.post_weight = post_weight_.data();
    if (!rows_.weight.empty()) problem.weight = weight_.data();
    problem.h = h_.view();
    problem.normed = normed_.view();
    problem.moments = moments_.floats();
    return problem;
  }

  void poison() {
    h_.poison();
    normed_.poison();
    moments_.poison();
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  void run(const ResidualNorm& problem) {
    poison();
    const Stream stream;
    gpu::residual_norm(problem, stream);
    stream.wait();
  }

  Matrix x() const { return x_.read(); }
  Matrix h() const { return h_.read(); }
  Matrix normed() const { return normed_.read(); }
  std::vector<float> moments() const { return moments_.read<float>(); }

  void expect_specified() {
    run(problem());
    const Matrix h = h_.read();
    expect_residual(h);
    expect_moments(h, rows_.norm, 1e-2f, moments());
    expect_normed(h);
    EXPECT_TRUE(h_.guards_intact());
    EXPECT_TRUE(normed_.guards_intact());
    EXPECT_TRUE(moments_.guards_intact());
  }

 private:
  void expect_residual(const Matrix& h) const {
    Matrix expected = testing::zeros(h.dtype, h.rows, h.columns);
    ResidualNorm problem = rows_.view();
    problem.h = expected.view();
    residual_norm(problem);
    if (rows_.y.rows == 0) {
      EXPECT_EQ(h.elements, expected.elements);
      return;
    }
    for (std::int64_t m = 0; m < h.rows; ++m) {
      for (std::int64_t k = 0; k < h.columns; ++k) {
        const double wanted = expected.value(m, k), x = rows_.x.value(m, k);
        const double branch = std::fabs(wanted) + std::fabs(x);  // at most
        ASSERT_NEAR(h.value(m, k), wanted,
                    testing::unit_at(h.dtype, wanted) + kOperations * kFp32 * branch)
            << "h of row " << m << ", column " << k;
      }
    }
  }

  /// Of the h that was written.
  void expect_normed(const Matrix& h) const {
    Matrix expected = testing::zeros(h.dtype, h.rows, h.columns);
    std::vector<float> moments(static_cast<std::size_t>(2 * h.rows));
    ResidualNorm problem = rows_.view();
    problem.x = h.view();
    problem.y = {};
    problem.normed = expected.view();
    problem.moments = moments.data();
    residual_norm(problem);
    const Matrix normed = normed_.read();
    for (std::int64_t m = 0; m < h.rows; ++m) {
      const double typical = mean_magnitude(h, m);
      const double rate = moments[static_cast<std::size_t>(2 * m + 1)];
      const std::int64_t image = image_of(m, rows_.image_tokens);
      for (std::int64_t k = 0; k < h.columns; ++k) {
        double terms = (std::fabs(h.value(m, k)) + typical) * rate;
        if (!rows_.weight.empty()) {
          terms *= std::fabs(testing::widen(h.dtype, rows_.weight[static_cast<std::size_t>(k)]));
        }
        if (rows_.scale.rows > 0) terms *= 1.0 + std::fabs(rows_.scale.value(image, k));
        if (rows_.shift.rows > 0) terms += std::fabs(rows_.shift.value(image, k));
        const double wanted = expected.value(m, k);
        ASSERT_NEAR(normed.value(m, k), wanted,
                    testing::unit_at(h.dtype, wanted) + kOperations * kFp32 * terms)
            << "n of row " << m << ", column " << k;
      }
    }
  }

  HostRows rows_;
  DeviceMatrix x_, y_, gate_, scale_, shift_;
  DeviceBuffer post_weight_, weight_;
  DeviceMatrix h_, normed_;
  DeviceBuffer moments_;
};

class RowsGpuTest : public testing::NarrowTypeGpuTest {
 protected:
  static void expect_specified(int parts, std::int64_t tokens, std::int64_t columns,
                               std::int64_t image_tokens, Norm norm, std::int64_t gap = 0) {
    SCOPED_TRACE("shape [" + std::to_string(tokens) + ", " + std::to_string(columns) + "], parts " +
                 std::to_string(parts) + ", " + std::to_string(image_tokens) +
                 " tokens an image, norm " + std::to_string(static_cast<int>(norm)));
    RowsCase(random_rows(GetParam(), parts, tokens, columns, image_tokens, norm), gap)
        .expect_specified();
  }
};

TEST_P(RowsGpuTest, MomentsOfEverySize) {
  for (const std::int64_t columns : kColumns) {
    for (const float mean : {0.0f, 200.0f}) {
      Matrix x = normal_matrix(GetParam(), 13, columns, 1);
      for (std::uint16_t& element : x.elements) {
        element = testing::narrow(GetParam(), testing::widen(GetParam(), element) + mean);
      }
      const DeviceMatrix gpu_x(x, {.gap = 8});
      for (const Norm norm : {Norm::layer, Norm::rms}) {
        for (const float eps : {1e-6f, 1e-2f}) {
          const DeviceBuffer found(13 * 2 * sizeof(float));
          ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
          const Stream stream;
          gpu::moments({.x = gpu_x.view(), .norm = norm, .eps = eps, .moments = found.floats()},
                       stream);
          stream.wait();
          SCOPED_TRACE(std::to_string(columns) + " columns around " + std::to_string(mean));
          expect_moments(x, norm, eps, found.read<float>());
          EXPECT_TRUE(found.guards_intact());
        }
      }
    }
  }
}

TEST_P(RowsGpuTest, EpsMattersToSmallTokensAndZeros) {
  for (const float deviation : {1e-3f, 0.0f}) {
    const Matrix x = normal_matrix(GetParam(), 5, 1024, 2, deviation);
    const DeviceMatrix gpu_x(x);
    for (const Norm norm : {Norm::layer, Norm::rms}) {
      const DeviceBuffer found(5 * 2 * sizeof(float));
      gpu::moments({.x = gpu_x.view(), .norm = norm, .moments = found.floats()}, nullptr);
      expect_moments(x, norm, 1e-6f, found.read<float>());
    }
  }
}

TEST_P(RowsGpuTest, ResidualAndNormTakeWhatIsGiven) {
  for (const Norm norm : {Norm::layer, Norm::rms}) {
    for (int parts = 0; parts <= kAllParts; ++parts) expect_specified(parts, 5, 72, 2, norm);
  }
}

TEST_P(RowsGpuTest, RowsOfEverySize) {
  for (const Norm norm : {Norm::layer, Norm::rms}) {
    for (const std::int64_t columns : kColumns) {
      expect_specified(kAllParts, 7, columns, 3, norm);
      expect_specified(kAllParts & ~(4 | 64), 7, columns, 0, norm, /*gap=*/8);
    }
  }
}

TEST_P(RowsGpuTest, ManyRows) {
  expect_specified(kAllParts, 1000, 3072, 300, Norm::layer, /*gap=*/24);
  expect_specified(kAllParts, 3000, 128, 1, Norm::rms);
}

TEST_P(RowsGpuTest, WhatIsNotWantedIsNotWritten) {
  RowsCase rows(random_rows(GetParam(), kAllParts, 9, 3072, 4, Norm::layer));
  rows.run(rows.problem());
  const Elements h = rows.h().elements, normed = rows.normed().elements;
  const std::vector<float> moments = rows.moments();
  rows.poison();
  const Elements poisoned = rows.h().elements;
  const auto bits = [](const std::vector<float>& values) {
    std::vector<std::uint32_t> result;
    for (const float value : values) result.push_back(std::bit_cast<std::uint32_t>(value));
    return result;
  };
  const std::vector<float> poisoned_moments = rows.moments();
  for (int wanted = 0; wanted < 8; ++wanted) {
    SCOPED_TRACE("wanted " + std::to_string(wanted));
    ResidualNorm problem = rows.problem();
    if (!(wanted & 1)) problem.h = {};
    if (!(wanted & 2)) problem.moments = nullptr;
    if (!(wanted & 4)) problem.normed = {};
    rows.run(problem);
    EXPECT_EQ(rows.h().elements, wanted & 1 ? h : poisoned);
    EXPECT_EQ(bits(rows.moments()), bits(wanted & 2 ? moments : poisoned_moments));
    EXPECT_EQ(rows.normed().elements, wanted & 4 ? normed : poisoned);
  }
}

TEST_P(RowsGpuTest, TheResidualMayStayInItsPlace) {
  for (const std::int64_t columns : {72, 3072, 32768}) {
    RowsCase rows(random_rows(GetParam(), kAllParts, 9, columns, 4, Norm::rms), /*gap=*/8);
    rows.run(rows.problem());
    const Elements h = rows.h().elements, normed = rows.normed().elements;
    ResidualNorm problem = rows.problem();
    problem.h = {const_cast<void*>(problem.x.data), problem.x.dtype, problem.x.rows,
                 problem.x.columns, problem.x.row_stride};
    rows.run(problem);
    EXPECT_EQ(rows.x().elements, h);
    EXPECT_EQ(rows.normed().elements, normed);
  }
}

// As diffusers does: fp16 stays finite. bf16 overflows, and NaN stays NaN.
TEST_P(RowsGpuTest, OnlyHalvesAreClipped) {
  const bool f16 = GetParam() == DType::f16;
  const float huge = f16 ? 6e4f : 3e38f, nan = std::nanf("");
  const float x[] = {huge, -huge, huge, INFINITY, -INFINITY, nan, INFINITY, 1.0f};
  const float y[] = {huge, -huge, -huge, 1.0f, 1.0f, 1.0f, -INFINITY, 2.0f};
  HostRows rows{.x = testing::zeros(GetParam(), 1, 8), .y = testing::zeros(GetParam(), 1, 8)};
  for (std::size_t k = 0; k < 8; ++k) {
    rows.x.elements[k] = testing::narrow(GetParam(), x[k]);
    rows.y.elements[k] = testing::narrow(GetParam(), y[k]);
  }
  Matrix expected = testing::zeros(GetParam(), 1, 8);
  ResidualNorm problem = rows.view();
  problem.h = expected.view();
  residual_norm(problem);
  RowsCase on_device(rows);
  on_device.run(on_device.problem());
  const Matrix h = on_device.h();
  for (std::int64_t k = 0; k < 8; ++k) {
    const float wanted = expected.value(0, k);
    EXPECT_TRUE(h.value(0, k) == wanted || (std::isnan(h.value(0, k)) && std::isnan(wanted))) << k;
  }
}

TEST_P(RowsGpuTest, TheSameBitsAgainAndInAGraph) {
  RowsCase rows(random_rows(GetParam(), kAllParts, 500, 3072, 100, Norm::layer));
  rows.run(rows.problem());
  const Elements h = rows.h().elements, normed = rows.normed().elements;
  const std::vector<float> moments = rows.moments();
  const Stream stream;
  const testing::Graph graph(stream, [&] { gpu::residual_norm(rows.problem(), stream); });
  for (int replay = 0; replay < 3; ++replay) {
    rows.poison();
    graph.launch(stream);
    stream.wait();
    EXPECT_EQ(rows.h().elements, h);
    EXPECT_EQ(rows.normed().elements, normed);
    EXPECT_EQ(rows.moments(), moments);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, RowsGpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
