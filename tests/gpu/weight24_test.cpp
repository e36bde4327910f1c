// SPDX-License-Identifier: Apache-2.0
// gpu::weight_product24 by every configuration, beside the specification.
#include "rtlynx/gpu/weight24.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "gpu/graph.h"
#include "gpu/weight_case.h"
#include "gpu/workspace.h"
#include "kernels/gemm/select.h"

namespace rtlynx {
namespace {

using gpu::Gemm24Config;
using testing::Bias;
using testing::CaseShape;
using testing::kNarrowTypes;
using testing::Matrix;
using testing::Residual;
using testing::single;
using testing::Values;
using testing::weight_configs;
using testing::WeightCase;

/// Element type, and whether input and weights are e4m3.
class Weight24GpuTest : public testing::GpuTest,
                        public ::testing::WithParamInterface<std::tuple<DType, bool>> {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped() && gpu::current_device().compute_capability != 90) {
      GTEST_SKIP() << "sparse weights run on compute capability 9.0";
    }
  }
  static WeightCase make(const CaseShape& shape, Values values = Values::normal) {
    return {std::get<0>(GetParam()), shape, std::get<1>(GetParam()), values};
  }
  static void expect_close(const CaseShape& shape) { make(shape).expect_close(weight_configs()); }
};

TEST_P(Weight24GpuTest, SmallAndRaggedShapes) {
  for (const CaseShape& shape :
       {single(1, 8, 16, 16), single(1, 256, 64), single(64, 3072, 3072, 64),
        single(65, 264, 80, 48), single(257, 520, 144, 128), single(300, 1000, 1040, 16),
        single(700, 1160, 208, 32)}) {
    expect_close(shape);
  }
}

// More tiles than multiprocessors; half a tile of outputs behind a whole one.
TEST_P(Weight24GpuTest, LargeShapes) {
  expect_close(single(512, 9216, 3072, 128));
  expect_close(single(4120, 3112, 1040, 16));
  expect_close(single(4608, 3072, 15360, 64));
}

TEST_P(Weight24GpuTest, EveryRank) {
  for (const int rank : {0, 16, 32, 48, 64, 80, 96, 112, 128}) {
    expect_close(single(130, 400, 112, rank));
  }
}

TEST_P(Weight24GpuTest, EveryGroup) {
  for (Gemm24Config config : weight_configs()) {
    for (const int group : {1, 3, 16}) {
      config.group_tiles = group;
      make(single(1000, 1504, 144, 16)).expect_close({config});
    }
  }
}

// Images that end within tiles, and one that is all.
TEST_P(Weight24GpuTest, EveryEpilogue) {
  CaseShape shape = single(300, 520, 208, 48);
  auto& product = shape.products.front();
  for (const Bias bias : {Bias::none, Bias::fp32, Bias::elements}) {
    for (const Activation activation : {Activation::none, Activation::gelu}) {
      for (const Residual residual : {Residual::none, Residual::own, Residual::in_place}) {
        for (const std::int64_t image_tokens : {-1, 0, 3, 110, 1000}) {
          product.bias = bias;
          product.activation = activation;
          product.residual = residual;
          product.gate = image_tokens >= 0;
          shape.image_tokens = std::max<std::int64_t>(image_tokens, 0);
          SCOPED_TRACE("bias " + std::to_string(static_cast<int>(bias)) + ", activation " +
                       std::to_string(static_cast<int>(activation)) + ", residual " +
                       std::to_string(static_cast<int>(residual)) + ", gate for " +
                       std::to_string(image_tokens));
          expect_close(shape);
        }
      }
    }
  }
}

TEST_P(Weight24GpuTest, RowsMayLieApart) {
  CaseShape shape = single(300, 520, 208, 48);
  shape.low_gap = shape.products.front().gap = 56;
  shape.products.front().gate = true;
  shape.products.front().residual = Residual::in_place;
  expect_close(shape);
}

// Columns of the low rank that no weight reads are NaN.
TEST_P(Weight24GpuTest, SeveralWeightsReadTheirOwnColumns) {
  CaseShape shape{.tokens = 300, .channels = 400, .rank = 48, .low_columns = 256};
  shape.products = {{.outputs = 264, .low_column = 16},
                    {.outputs = 8, .low_column = 64, .activation = Activation::gelu},
                    {.outputs = 520, .low_column = 128, .residual = Residual::own},
                    {.outputs = 128, .low_column = 192, .bias = Bias::none, .gate = true}};
  expect_close(shape);
}

TEST_P(Weight24GpuTest, SmallIntegersAreExact) {
  for (const CaseShape& shape : {single(300, 1000, 1040, 64), single(65, 264, 80, 48),
                                 single(1, 8, 16, 16), single(2000, 1000, 512)}) {
    CaseShape plain = shape;
    plain.products.front().bias = Bias::none;
    WeightCase product = make(plain, Values::integers);
    for (const Gemm24Config& config : weight_configs()) {
      SCOPED_TRACE(testing::describe(std::get<0>(GetParam()), plain) + ", " +
                   gpu::describe(config));
      product.run(config);
      product.expect_exact();
    }
  }
}

TEST_P(Weight24GpuTest, ATokenThatIsNotFiniteSpoilsItsRowOnly) {
  constexpr std::int64_t kSpoilt = 129;
  WeightCase product = make(single(300, 264, 80, 16));
  Matrix x = product.x();
  std::fill_n(x.elements.begin() + static_cast<std::ptrdiff_t>(x.index(kSpoilt, 0)), x.columns,
              0xffffu);
  for (const Gemm24Config& config : weight_configs()) {
    SCOPED_TRACE(gpu::describe(config));
    product.put_x(product.x());
    product.run(config);
    const Matrix clean = product.y(0);
    product.put_x(x);
    product.run(config);
    const Matrix y = product.y(0);
    for (std::int64_t m = 0; m < y.rows; ++m) {
      for (std::int64_t n = 0; n < y.columns; ++n) {
        if (m == kSpoilt) {
          ASSERT_FALSE(std::isfinite(y.value(m, n))) << "column " << n;
        } else {
          ASSERT_EQ(y.elements[y.index(m, n)], clean.elements[y.index(m, n)])
              << "row " << m << ", column " << n;
        }
      }
    }
  }
}

TEST_P(Weight24GpuTest, TheSameBitsAgainAndInAGraph) {
  CaseShape shape = single(1000, 1544, 3088, 64);
  shape.products.push_back({.outputs = 264, .residual = Residual::own});
  WeightCase product = make(shape);
  for (const Gemm24Config& config : weight_configs()) {
    SCOPED_TRACE(gpu::describe(config));
    product.run(config);
    const auto first = std::pair(product.y(0).elements, product.y(1).elements);
    product.run(config);
    EXPECT_EQ(std::pair(product.y(0).elements, product.y(1).elements), first);

    const testing::TestWorkspace workspace(
        gpu::product24_workspace_bytes(config, gpu::current_device()));
    const testing::Stream stream;
    const testing::Graph graph(stream, [&] {
      for (int i = 0; i < 2; ++i) {
        gpu::weight_product24(product.input(), product.products(), config, workspace.view(),
                              stream);
      }
    });
    for (int i = 0; i < 3; ++i) graph.launch(stream);
    stream.wait();
    workspace.expect_clean();
    EXPECT_EQ(std::pair(product.y(0).elements, product.y(1).elements), first);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Weight24GpuTest,
                         ::testing::Combine(::testing::ValuesIn(kNarrowTypes), ::testing::Bool()),
                         [](const auto& type) {
                           return std::string(std::get<1>(type.param) ? "e4m3_" : "") +
                                  name_of(std::get<0>(type.param));
                         });

}  // namespace
}  // namespace rtlynx
