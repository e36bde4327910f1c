// SPDX-License-Identifier: Apache-2.0
// Packing to e4m3 and products of e4m3, beside the specification.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gpu/e4m3_case.h"
#include "gpu/product_case.h"
#include "kernels/gemm/select.h"
#include "kernels/pack/pack24.h"

namespace rtlynx {
namespace {

using gpu::Gemm24Config;
using testing::DeviceBuffer;
using testing::E4m3Case;
using testing::E4m3Shape;
using testing::HostInput;
using testing::kNarrowTypes;
using testing::on_gpu;

/// The configurations that multiply e4m3.
std::vector<Gemm24Config> configs() {
  std::vector<Gemm24Config> configs = testing::all_configs();
  std::erase_if(configs,
                [](const Gemm24Config& config) { return config.path != Gemm24Config::Path::sm90; });
  return configs;
}

class E4m3GpuTest : public testing::NarrowTypeGpuTest {
 protected:
  void SetUp() override {
    NarrowTypeGpuTest::SetUp();
    if (!IsSkipped() && gpu::current_device().compute_capability != 90) {
      GTEST_SKIP() << "e4m3 runs on compute capability 9.0";
    }
  }
  static HostInput input(Producer producer, std::int64_t tokens, std::int64_t channels,
                         std::int64_t low_columns = 0) {
    return testing::random_input(GetParam(), producer, tokens, channels, low_columns);
  }
  static void expect_all(HostInput input, const E4m3Shape& shape) {
    SCOPED_TRACE("M " + std::to_string(input.tokens()) + ", K " + std::to_string(input.channels()) +
                 ", producer " + std::to_string(static_cast<int>(input.producer)) + ", rank " +
                 std::to_string(shape.rank));
    E4m3Case product(std::move(input), shape);
    product.pack();
    product.expect_packed();
    for (const Gemm24Config& config : configs()) {
      SCOPED_TRACE(gpu::describe(config));
      product.multiply(config);
      product.expect_products(shape.integers);
    }
  }
};

constexpr Producer kProducers[] = {Producer::none, Producer::gelu, Producer::swiglu,
                                   Producer::norm};

TEST_P(E4m3GpuTest, RaggedShapesOfEveryProducer) {
  for (const Producer producer : kProducers) {
    for (const auto& [tokens, channels] : {std::pair<std::int64_t, std::int64_t>{1, 16},
                                           {63, 64},
                                           {65, 80},
                                           {130, 208},
                                           {301, 1040}}) {
      expect_all(input(producer, tokens, channels), {.outputs = {264}});
    }
  }
}

TEST_P(E4m3GpuTest, LowRankBesideSeveralWeights) {
  for (const Producer producer : kProducers) {
    expect_all(input(producer, 300, 400, 192), {.outputs = {264, 8, 520}, .rank = 64});
  }
  expect_all(input(Producer::none, 130, 80, 64), {.outputs = {136, 40, 256, 392}, .rank = 16});
}

TEST_P(E4m3GpuTest, EveryEpilogue) {
  expect_all(input(Producer::norm, 300, 208, 48), {.outputs = {520}, .rank = 48, .epilogue = true});
}

TEST_P(E4m3GpuTest, TransformsBeforeTheChoice) {
  for (const int block : {64, 128}) {
    for (const Producer producer : {Producer::none, Producer::gelu, Producer::norm}) {
      HostInput transformed = input(producer, 130, 384, 64);
      add_transform(transformed, block);
      expect_all(transformed, {.outputs = {264}, .rank = 64});
    }
  }
}

TEST_P(E4m3GpuTest, LimitsStandInForReading) {
  const std::int64_t tokens = 301;
  const std::vector<float> limits = testing::uniform(tokens, 1, 0.0f, 900.0f);
  const std::vector<float> tail_limits = testing::uniform(tokens, 2, 0.0f, 900.0f);
  const DeviceBuffer gpu_limits = on_gpu(limits), gpu_tail_limits = on_gpu(tail_limits);
  HostInput host = input(Producer::none, tokens, 256);
  host.tail = testing::normal_matrix(GetParam(), tokens, 80, 3, 200.0f);
  const E4m3Case device(host, {});
  for (const auto& [of_x, of_tail] : {std::pair{true, true}, {true, false}, {false, true}}) {
    Pack24 own = device.problem(), specified = host.view();
    if (of_x) own.limit = gpu_limits.floats(), specified.limit = limits.data();
    if (of_tail)
      own.tail_limit = gpu_tail_limits.floats(), specified.tail_limit = tail_limits.data();
    const DeviceBuffer factors(static_cast<std::size_t>(tokens) * sizeof(float));
    std::vector<float> expected(static_cast<std::size_t>(tokens));
    gpu::code_factors(own, 1.0f, factors.floats(), nullptr);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    code_factors(specified, 1.0f, expected.data());
    EXPECT_EQ(factors.read<float>(), expected);
  }
}

TEST_P(E4m3GpuTest, LongProducts) {
  expect_all(input(Producer::gelu, 256, 15360, 64), {.outputs = {512}, .rank = 64});
}

TEST_P(E4m3GpuTest, SmallIntegersAreExact) {
  for (const auto& [tokens, outputs, channels] :
       {std::tuple<std::int64_t, std::int64_t, std::int64_t>{300, 1000, 1040},
        {65, 264, 80},
        {1, 8, 16},
        {2000, 520, 512}}) {
    HostInput integers{.x = testing::integer_matrix(GetParam(), tokens, channels, 1, 4)};
    integers.restores_norm = false;
    expect_all(integers, {.outputs = {outputs}, .integers = true});
  }
}

TEST_P(E4m3GpuTest, HardRowsArePackedAsSpecified) {
  for (int first_kind = 0; first_kind < 8; ++first_kind) {
    E4m3Case product({.x = testing::hard_rows(GetParam(), 65, 144, first_kind)}, {.outputs = {8}});
    product.pack();
    product.expect_packed();
  }
}

TEST_P(E4m3GpuTest, TheSameBitsEveryTime) {
  E4m3Case product(input(Producer::norm, 700, 3072, 64), {.outputs = {1160}, .rank = 64});
  const Gemm24Config config = configs().back();
  product.pack();
  product.multiply(config);
  const auto operand = product.operand();
  const auto scale = product.scale();
  const auto y = product.y(0).elements;
  product.pack();
  product.multiply(config);
  EXPECT_EQ(product.operand(), operand);
  EXPECT_EQ(product.scale(), scale);
  EXPECT_EQ(product.y(0).elements, y);
}

// 64 tokens alone and among others: the factors are powers of two of each token's own.
TEST_P(E4m3GpuTest, ATokenDoesNotDependOnTheOthers) {
  const HostInput all = input(Producer::gelu, 128, 1024);
  HostInput half = all;
  half.x.rows = 64;
  half.x.elements.resize(64 * 1024);
  E4m3Case whole(all, {.outputs = {520}}), part(half, {.outputs = {520}});
  for (const Gemm24Config& config : configs()) {
    if (config.stream_k) continue;
    whole.pack();
    part.pack();
    whole.multiply(config);
    part.multiply(config);
    const auto y = whole.y(0).elements, own = part.y(0).elements;
    EXPECT_TRUE(std::equal(own.begin(), own.end(), y.begin()));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, E4m3GpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
