// SPDX-License-Identifier: Apache-2.0
// Every rule of gpu::weight_product24, broken once. Most are checked before a device is looked for.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "gpu/gpu_test.h"
#include "gpu/rule.h"
#include "rtlynx/gpu/weight24.h"

namespace rtlynx {
namespace {

using gpu::Gemm24Config;
using testing::address;
using testing::expect_all_refused;
using testing::floats;
using testing::Rule;
using testing::somewhere;
using testing::unaligned;

/// A weight of `outputs` x 192 on the device, whose values lie in the operand alone.
WeightProduct24 weight_of(std::int64_t outputs, std::int64_t low_column) {
  return {.values = contiguous(static_cast<const void*>(nullptr), DType::bf16, outputs, 96),
          .operand = address(),
          .up = somewhere(outputs, 64),
          .low_column = low_column,
          .y = somewhere(100, outputs)};
}

struct WeightCall {
  DenseInput24 input{.x = somewhere(100, 192), .low = somewhere(100, 128)};
  std::vector<WeightProduct24> products{weight_of(264, 0), weight_of(512, 64)};
  Gemm24Config config{
      .path = Gemm24Config::Path::sm90, .tile_tokens = 256, .tile_outputs = 128, .stream_k = true};
  gpu::Workspace workspace = {};

  WeightProduct24& last() { return products.back(); }
  void operator()() const { gpu::weight_product24(input, products, config, workspace, nullptr); }
};

void use_codes(WeightCall& c) {
  c.input.x.dtype = DType::e4m3;
  for (WeightProduct24& product : c.products) product.values.dtype = DType::e4m3;
}

const std::vector<Rule<WeightCall>> kRules = {
    {"no tokens", [](WeightCall& c) { c.input.x.rows = 0; }, "1 to 2^30 tokens"},
    {"too many tokens", [](WeightCall& c) { c.input.x.rows = std::int64_t{1} << 31; }, "2^30"},
    {"fp32", [](WeightCall& c) { c.products.front().y.dtype = DType::f32; },
     "bf16 or f16, got f32"},
    {"K not a multiple of 16", [](WeightCall& c) { c.input.x.columns = 184; }, "divisible by 16"},
    {"x unaligned", [](WeightCall& c) { c.input.x.data = unaligned(); }, "x"},
    {"x with a row stride", [](WeightCall& c) { c.input.x.row_stride = 196; },
     "a row stride of x divisible by 8, got 196"},
    {"codes with a row stride",
     [](WeightCall& c) {
       use_codes(c);
       c.input.x.row_stride = 200;
     },
     "a row stride of x divisible by 16, got 200"},
    {"scale of the input unaligned", [](WeightCall& c) { c.input.scale = floats(unaligned()); },
     "scale of the input"},
    {"low unaligned", [](WeightCall& c) { c.input.low.data = unaligned(); }, "low"},
    {"low of other tokens", [](WeightCall& c) { c.input.low.rows = 99; }, "low [100, 128]"},
    {"no products", [](WeightCall& c) { c.products.clear(); }, "1 to 4 products, got 0"},
    {"too many products", [](WeightCall& c) { c.products.resize(5, c.last()); },
     "1 to 4 products, got 5"},
    {"several ranks", [](WeightCall& c) { c.last().up = somewhere(512, 48); }, "one rank for all"},
    {"rank above 128",
     [](WeightCall& c) {
       c.products = {weight_of(264, 0)};
       c.last().up = somewhere(264, 144);
     },
     "a rank of 0 to 128, divisible by 16, got 144"},
    {"a first column inside 16", [](WeightCall& c) { c.last().low_column = 40; },
     "a first column of low divisible by 16, got 40"},
    {"columns beyond low", [](WeightCall& c) { c.last().low_column = 80; }, "64 from column 80"},
    {"no outputs", [](WeightCall& c) { c.last() = weight_of(0, 64); }, "outputs N of 1 to 2^30"},
    {"N not a multiple of 8",
     [](WeightCall& c) {
       c.last() = weight_of(508, 64);
       c.last().y = somewhere(100, 508);
     },
     "divisible by 8, got 508"},
    {"a weight of another K", [](WeightCall& c) { c.last().values.columns = 88; },
     "values [512, 96]"},
    {"a weight of another type", [](WeightCall& c) { c.last().values.dtype = DType::f16; },
     "values [512, 96] bf16"},
    {"operand null", [](WeightCall& c) { c.last().operand = nullptr; }, "operand"},
    {"operand unaligned", [](WeightCall& c) { c.last().operand = unaligned(); }, "operand"},
    {"scale of the weight unaligned", [](WeightCall& c) { c.last().scale = floats(unaligned()); },
     "scale of the weight"},
    {"up unaligned", [](WeightCall& c) { c.last().up.data = unaligned(); }, "up"},
    {"bias unaligned", [](WeightCall& c) { c.last().bias = unaligned(); }, "bias"},
    {"gate of other images", [](WeightCall& c) { c.last().gate = somewhere(3, 512); },
     "gate [1, 512]"},
    {"residual of other tokens", [](WeightCall& c) { c.last().residual = somewhere(99, 512); },
     "residual [100, 512]"},
    {"y unaligned", [](WeightCall& c) { c.last().y.data = unaligned(); }, "y"},
    {"y of other tokens", [](WeightCall& c) { c.last().y.rows = 99; }, "Y [100, 512]"},
};

TEST(GpuArguments, WeightProductsRefuseEveryBrokenRule) {
  expect_all_refused(kRules, "gpu::weight_product24");
}

class WeightArgumentsGpuTest : public testing::GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped() && gpu::current_device().compute_capability != 90) {
      GTEST_SKIP() << "sparse weights run on compute capability 9.0";
    }
  }
};

TEST_F(WeightArgumentsGpuTest, ConfigurationsAndWorkspacesThatDoNotFitAreRefused) {
  const std::vector<Rule<WeightCall>> rules = {
      {"the tile of sparse inputs",
       [](WeightCall& c) { std::swap(c.config.tile_tokens, c.config.tile_outputs); },
       "a tile of 256x128"},
      {"another path", [](WeightCall& c) { c.config = {.path = Gemm24Config::Path::sm80}; },
       "path sm90"},
      {"a cluster of 3", [](WeightCall& c) { c.config.cluster = 3; }, "a cluster of 1 or 2"},
      {"no workspace", [](WeightCall&) {}, "workspace"},
      {"a small workspace",
       [](WeightCall& c) {
         c.workspace = {address(), 1024};
       },
       "a workspace of"}};
  expect_all_refused(rules, "gpu::weight_product24");
}

TEST_F(WeightArgumentsGpuTest, NothingWasLaunchedByBrokenRules) {
  expect_all_refused(kRules, "gpu::weight_product24");
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

}  // namespace
}  // namespace rtlynx
