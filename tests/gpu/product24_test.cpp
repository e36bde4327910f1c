// SPDX-License-Identifier: Apache-2.0
// gpu::product24 of one weight by every configuration, beside the specification.
#include "rtlynx/gpu/product24.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gpu/product_case.h"
#include "kernels/gemm/select.h"

namespace rtlynx {
namespace {

using gpu::Gemm24Config;
using testing::all_configs;
using testing::Bias;
using testing::CaseShape;
using testing::kNarrowTypes;
using testing::Matrix;
using testing::ProductCase;
using testing::Residual;
using testing::single;
using testing::Values;

class Product24GpuTest : public testing::NarrowTypeGpuTest {
 protected:
  static void expect_close(const CaseShape& shape, const std::vector<Gemm24Config>& configs) {
    ProductCase(GetParam(), shape).expect_close(configs);
  }
};

TEST_P(Product24GpuTest, SmallAndRaggedShapes) {
  for (const CaseShape& shape :
       {single(1, 8, 16, 16), single(1, 256, 64), single(64, 3072, 3072, 64),
        single(65, 264, 80, 48), single(129, 520, 144, 128), single(300, 1000, 1040, 16),
        single(700, 1160, 208, 32)}) {
    expect_close(shape, all_configs());
  }
}

TEST_P(Product24GpuTest, LargeShapes) {
  expect_close(single(512, 9216, 3072, 128), all_configs());
  expect_close(single(6889, 3072, 3072, 64), all_configs());
}

TEST_P(Product24GpuTest, LongProductsCutAlongK) {
  expect_close(single(4608, 3072, 15360, 64), testing::stream_k_configs());
}

// 65 blocks of 64 tokens, and more tiles than multiprocessors: half of a CTA has no tokens in a
// tile behind one in which it had some.
TEST_P(Product24GpuTest, HalfATileAfterAWholeOne) {
  expect_close(single(4120, 2104, 1040, 16), all_configs());
  expect_close(single(4120, 2104, 1040), all_configs());
}

TEST_P(Product24GpuTest, EveryRank) {
  for (const int rank : {0, 16, 32, 48, 64, 80, 96, 112, 128}) {
    expect_close(single(130, 400, 112, rank), all_configs());
  }
}

// Tiles walk along N alone, in groups of which the last is smaller, and all 12 together.
TEST_P(Product24GpuTest, EveryGroup) {
  std::vector<Gemm24Config> configs;
  for (Gemm24Config config : all_configs()) {
    for (const int group : {1, 3, 16}) {
      config.group_tiles = group;
      configs.push_back(config);
    }
  }
  expect_close(single(1500, 1000, 144, 16), configs);
}

// Images that end within tiles, and one that is all.
TEST_P(Product24GpuTest, EveryEpilogue) {
  CaseShape shape = single(300, 520, 208, 48);
  auto& product = shape.products.front();
  for (const Bias bias : {Bias::none, Bias::fp32, Bias::elements}) {
    for (const Activation activation : {Activation::none, Activation::gelu}) {
      for (const Residual residual : {Residual::none, Residual::own, Residual::in_place}) {
        for (const std::int64_t image_tokens : {-1, 0, 110, 1000}) {
          product.bias = bias;
          product.activation = activation;
          product.residual = residual;
          product.gate = image_tokens >= 0;
          shape.image_tokens = std::max<std::int64_t>(image_tokens, 0);
          SCOPED_TRACE("bias " + std::to_string(static_cast<int>(bias)) + ", activation " +
                       std::to_string(static_cast<int>(activation)) + ", residual " +
                       std::to_string(static_cast<int>(residual)) + ", gate for " +
                       std::to_string(image_tokens));
          expect_close(shape, all_configs());
        }
      }
    }
  }
}

TEST_P(Product24GpuTest, RowsMayLieApart) {
  for (const std::int64_t gap : {8, 56}) {
    CaseShape shape = single(300, 520, 208, 48);
    shape.low_gap = gap;
    shape.products.front().gap = gap;
    shape.products.front().gate = true;
    shape.products.front().residual = Residual::own;
    shape.image_tokens = 100;
    expect_close(shape, all_configs());
    shape.products.front().residual = Residual::in_place;
    expect_close(shape, all_configs());
  }
}

TEST_P(Product24GpuTest, SmallIntegersAreExact) {
  for (const CaseShape& shape :
       {single(300, 1000, 1040, 64), single(65, 264, 80, 48), single(1, 8, 16, 16),
        single(257, 768, 3088, 32), single(2000, 1000, 512)}) {
    ProductCase product(GetParam(), shape, Values::integers);
    for (const Gemm24Config& config : all_configs()) {
      SCOPED_TRACE(testing::describe(GetParam(), shape) + ", " + gpu::describe(config));
      product.run(config);
      product.expect_exact();
    }
  }
}

TEST_P(Product24GpuTest, TheIdentityGivesWhatWasKept) {
  const std::int64_t channels = 528;
  CaseShape shape = single(130, channels, channels);
  shape.products.front().bias = Bias::none;
  ProductCase product(GetParam(), shape);
  Matrix identity = testing::zeros(GetParam(), channels, channels);
  for (std::int64_t k = 0; k < channels; ++k) {
    identity.elements[identity.index(k, k)] = testing::narrow(GetParam(), 1.0f);
  }
  product.replace_weight(0, identity);
  for (const Gemm24Config& config : all_configs()) {
    SCOPED_TRACE(gpu::describe(config));
    product.run(config);
    product.expect_exact();
  }
}

/// Runs with what `spoil` puts on the GPU. Of Y, only what `is_spoilt(row, column)` may change, and
/// it becomes infinite or NaN; `restore` undoes it.
template <typename Spoil, typename Restore, typename IsSpoilt>
void expect_only(ProductCase& product, Spoil spoil, Restore restore, IsSpoilt is_spoilt) {
  for (const Gemm24Config& config : all_configs()) {
    SCOPED_TRACE(gpu::describe(config));
    product.run(config);
    const Matrix clean = product.y(0);
    spoil();
    product.run(config);
    const Matrix y = product.y(0);
    restore();
    for (std::int64_t m = 0; m < y.rows; ++m) {
      for (std::int64_t n = 0; n < y.columns; ++n) {
        ASSERT_TRUE(std::isfinite(clean.value(m, n))) << "row " << m << ", column " << n;
        if (is_spoilt(m, n)) {
          ASSERT_FALSE(std::isfinite(y.value(m, n))) << "row " << m << ", column " << n;
        } else {
          ASSERT_EQ(y.elements[y.index(m, n)], clean.elements[y.index(m, n)])
              << "row " << m << ", column " << n;
        }
      }
    }
  }
}

// Channels are ragged: the row before the NaN ends next to it.
TEST_P(Product24GpuTest, NotFiniteWeightsSpoilTheirOutputsOnly) {
  const std::int64_t row = 70;
  const auto with_nan = [](Matrix matrix) {
    std::fill_n(matrix.elements.begin() + static_cast<std::ptrdiff_t>(matrix.index(row, 0)),
                matrix.columns, 0xffffu);
    return matrix;
  };
  const auto in_column = [](std::int64_t, std::int64_t n) { return n == row; };
  for (const std::int64_t channels : {16, 80, 1040}) {
    ProductCase product(GetParam(), single(130, 264, channels, 16));
    const Matrix weight = product.weight(0), up = product.up(0);
    expect_only(
        product, [&] { product.put_weight(0, with_nan(weight)); },
        [&] { product.put_weight(0, weight); }, in_column);
    expect_only(
        product, [&] { product.put_up(0, with_nan(up)); }, [&] { product.put_up(0, up); },
        in_column);
  }
}

TEST_P(Product24GpuTest, NotFiniteTokensSpoilTheirRowsOnly) {
  const std::int64_t nan_row = 9, infinite_row = 128;
  ProductCase product(GetParam(), single(130, 264, 80, 16));
  Matrix x = product.x();
  x.elements[x.index(nan_row, 5)] = 0xffffu;
  x.elements[x.index(infinite_row, 79)] = GetParam() == DType::bf16 ? 0xff80u : 0xfc00u;
  expect_only(
      product, [&] { product.put_x(x); }, [&] { product.put_x(product.x()); },
      [](std::int64_t m, std::int64_t) { return m == nan_row || m == infinite_row; });
}

INSTANTIATE_TEST_SUITE_P(Types, Product24GpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
