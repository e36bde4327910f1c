// SPDX-License-Identifier: Apache-2.0
// gpu::product24 of several weights that read one packed input, beside the specification.
#include <gtest/gtest.h>

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
using testing::ProductCase;
using testing::ProductShape;
using testing::Residual;
using testing::Values;

/// The outputs of one to four weights: less than a tile, ragged, whole tiles.
const std::vector<std::vector<std::int64_t>> kOutputs = {
    {264}, {8, 264}, {1000, 8}, {256, 512, 768}, {136, 520, 8}, {40, 1160, 256, 392}};

class ProductsGpuTest : public testing::NarrowTypeGpuTest {
 protected:
  /// Products of these outputs, whose columns of low are `apart` columns apart; 0: the same.
  static CaseShape shape_of(std::int64_t tokens, const std::vector<std::int64_t>& outputs,
                            std::int64_t channels, int rank, std::int64_t apart) {
    CaseShape shape{.tokens = tokens, .channels = channels, .rank = rank};
    for (const std::int64_t n : outputs) {
      const auto index = static_cast<std::int64_t>(shape.products.size());
      shape.products.push_back({.outputs = n, .low_column = index * apart});
    }
    return shape;
  }

  static void expect_close(const CaseShape& shape, const std::vector<Gemm24Config>& configs) {
    ProductCase(GetParam(), shape).expect_close(configs);
  }
};

TEST_P(ProductsGpuTest, EachHasItsColumnsOfLow) {
  for (const std::int64_t tokens : {1, 100, 300}) {
    for (const std::vector<std::int64_t>& outputs : kOutputs) {
      for (const int rank : {0, 16, 48, 64})
        expect_close(shape_of(tokens, outputs, 144, rank, rank), all_configs());
    }
  }
  expect_close(shape_of(300, {264, 520}, 208, 128, 128), all_configs());
}

TEST_P(ProductsGpuTest, OrTheSameOnesAJointLowRank) {
  for (const int rank : {16, 48, 128}) {
    for (const std::vector<std::int64_t>& outputs : kOutputs) {
      expect_close(shape_of(130, outputs, 80, rank, 0), all_configs());
    }
  }
}

// In any order, and overlapping.
TEST_P(ProductsGpuTest, OrAnyOfThem) {
  CaseShape shape = shape_of(130, {264, 136, 520}, 208, 48, 0);
  shape.low_gap = 8;
  shape.products[0].low_column = 80;
  shape.products[1].low_column = 0;
  shape.products[2].low_column = 32;
  expect_close(shape, all_configs());
}

// What is not finite in columns of others does not matter: a whole step of the low rank has 32.
TEST_P(ProductsGpuTest, ColumnsThatNoneReadsDoNotMatter) {
  for (const int rank : {16, 32, 48, 112}) {
    CaseShape shape = shape_of(130, {264, 136}, 208, rank, 128);
    shape.low_columns = 256;
    expect_close(shape, all_configs());
  }
}

TEST_P(ProductsGpuTest, EachHasItsEpilogueAndItsRows) {
  for (const std::int64_t tokens : {130, 300}) {
    CaseShape shape{.tokens = tokens,
                    .channels = 208,
                    .rank = 32,
                    .image_tokens = 70,
                    .low_gap = 24,
                    .products = {{.outputs = 264, .bias = Bias::none},
                                 {.outputs = 520,
                                  .low_column = 32,
                                  .bias = Bias::elements,
                                  .activation = Activation::gelu,
                                  .gap = 8},
                                 {.outputs = 1000,
                                  .low_column = 64,
                                  .gate = true,
                                  .residual = Residual::in_place,
                                  .gap = 24},
                                 {.outputs = 136,
                                  .low_column = 96,
                                  .bias = Bias::elements,
                                  .gate = true,
                                  .residual = Residual::own,
                                  .gap = 120}}};
    expect_close(shape, all_configs());
  }
}

TEST_P(ProductsGpuTest, SmallIntegersAreExact) {
  for (const CaseShape& shape : {shape_of(257, {256, 520, 8}, 3088, 32, 32),
                                 shape_of(1000, {264, 1000, 40, 136}, 512, 64, 0)}) {
    ProductCase products(GetParam(), shape, Values::integers);
    for (const Gemm24Config& config : all_configs()) {
      SCOPED_TRACE(testing::describe(GetParam(), shape) + ", " + gpu::describe(config));
      products.run(config);
      products.expect_exact();
    }
  }
}

// q, k and v of Z-Image; attention and MLP of FLUX's single blocks, one of which has GELU.
TEST_P(ProductsGpuTest, LinearsOfModels) {
  expect_close(shape_of(4224, {3840, 3840, 3840}, 3840, 64, 64), all_configs());
  CaseShape flux = shape_of(4608, {3072, 3072, 3072, 12288}, 3072, 64, 64);
  flux.products[3].activation = Activation::gelu;
  for (ProductShape& product : flux.products) product.bias = Bias::elements;
  expect_close(flux, all_configs());
}

INSTANTIATE_TEST_SUITE_P(Types, ProductsGpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
