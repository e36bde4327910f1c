// SPDX-License-Identifier: Apache-2.0
// Every rule of gpu::pack24 and gpu::product24, broken once. Most are checked before a device is
// looked for.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "gpu/gpu_test.h"
#include "gpu/rule.h"
#include "rtlynx/gpu/pack24.h"
#include "rtlynx/gpu/product24.h"

namespace rtlynx {
namespace {

using gpu::Gemm24Config;
using testing::address;
using testing::expect_all_refused;
using testing::expect_refused;
using testing::floats;
using testing::Rule;
using testing::somewhere;
using testing::unaligned;

struct PackCall {
  Pack24 input{.x = somewhere(100, 192), .down = somewhere(64, 192)};
  gpu::PackedInput packed{.tokens = 100,
                          .channels = 192,
                          .operand = address(),
                          .scale = floats(address()),
                          .low = somewhere(100, 64)};
  gpu::Workspace workspace = {};

  void operator()() const { gpu::pack24(input, packed, workspace, nullptr); }
};

void use_norm(PackCall& c) {
  c.input.producer = Producer::norm;
  c.input.moments = floats(address());
}
void use_swiglu(PackCall& c) {
  c.input.producer = Producer::swiglu;
  c.input.up = somewhere(100, 192);
}
void use_transform(PackCall& c, int block) {
  c.input.transform = address();
  c.input.transform_block = block;
}
void use_tail(PackCall& c) {
  c.input.x = somewhere(100, 128);
  c.input.tail = somewhere(100, 64);
}

const std::vector<Rule<PackCall>> kPackRules = {
    {"fp32", [](PackCall& c) { c.input.x.dtype = c.input.down.dtype = DType::f32; },
     "X of bf16 or f16, got f32"},
    {"K not a multiple of 16", [](PackCall& c) { c.input.x.columns = 184; },
     "channels divisible by 16"},
    {"row stride below K", [](PackCall& c) { c.input.x.row_stride = 176; }, "row_stride of X"},
    {"row stride not a multiple of 16", [](PackCall& c) { c.input.x.row_stride = 200; },
     "a row stride of X divisible by 16, got 200"},
    {"negative tokens", [](PackCall& c) { c.input.x.rows = -1; }, "negative sizes"},
    {"too many tokens", [](PackCall& c) { c.input.x.rows = std::int64_t{1} << 31; }, "2^30"},
    {"X null", [](PackCall& c) { c.input.x.data = nullptr; }, "data for X"},
    {"X unaligned", [](PackCall& c) { c.input.x.data = unaligned(); }, "X in device memory"},
    {"tail of other rows", [](PackCall& c) { use_tail(c), c.input.tail.rows = 99; }, "tail"},
    {"tail unaligned", [](PackCall& c) { use_tail(c), c.input.tail.data = unaligned(); }, "tail"},
    {"tail with a row stride", [](PackCall& c) { use_tail(c), c.input.tail.row_stride = 72; },
     "a row stride of tail"},
    {"tail behind too little",
     [](PackCall& c) {
       c.input.x = somewhere(100, 64);
       c.input.tail = somewhere(100, 128);
     },
     "a multiple of 128, got 64"},
    {"tail beside a producer", [](PackCall& c) { use_tail(c), c.input.producer = Producer::gelu; },
     "no producer"},
    {"operand null", [](PackCall& c) { c.packed.operand = nullptr; }, "operand"},
    {"operand unaligned", [](PackCall& c) { c.packed.operand = unaligned(); }, "operand"},
    {"scale null", [](PackCall& c) { c.packed.scale = nullptr; }, "scale"},
    {"scale unaligned", [](PackCall& c) { c.packed.scale = floats(unaligned()); }, "scale"},
    {"packed of another type", [](PackCall& c) { c.packed.dtype = DType::f16; }, "packed input"},
    {"packed of other tokens", [](PackCall& c) { c.packed.tokens = 99; }, "packed input"},
    {"packed of another K", [](PackCall& c) { c.packed.channels = 176; }, "packed input"},
    {"rank not a multiple of 16", [](PackCall& c) { c.input.down.rows = 24; }, "256 rows of down"},
    {"rank above 256", [](PackCall& c) { c.input.down.rows = 272; }, "256 rows of down"},
    {"down of another K", [](PackCall& c) { c.input.down.columns = 176; }, "down [64, 192]"},
    {"down of another type", [](PackCall& c) { c.input.down.dtype = DType::f16; }, "down"},
    {"down with a row stride", [](PackCall& c) { c.input.down.row_stride = 200; },
     "a row stride of down"},
    {"down null", [](PackCall& c) { c.input.down.data = nullptr; }, "data for down"},
    {"down unaligned", [](PackCall& c) { c.input.down.data = unaligned(); }, "down"},
    {"low null", [](PackCall& c) { c.packed.low.data = nullptr; }, "data for low"},
    {"low unaligned", [](PackCall& c) { c.packed.low.data = unaligned(); }, "low"},
    {"low of other columns", [](PackCall& c) { c.packed.low.columns = 48; }, "low [100, 64]"},
    {"low with a row stride", [](PackCall& c) { c.packed.low.row_stride = 68; },
     "a row stride of low divisible by 8"},
    {"no such producer", [](PackCall& c) { c.input.producer = static_cast<Producer>(99); },
     "a known producer, got 99"},
    {"swiglu without up", [](PackCall& c) { c.input.producer = Producer::swiglu; }, "up"},
    {"up unaligned", [](PackCall& c) { use_swiglu(c), c.input.up.data = unaligned(); }, "up"},
    {"up with a row stride", [](PackCall& c) { use_swiglu(c), c.input.up.row_stride = 200; },
     "a row stride of up"},
    {"norm without moments", [](PackCall& c) { c.input.producer = Producer::norm; }, "moments"},
    {"moments unaligned", [](PackCall& c) { use_norm(c), c.input.moments = floats(unaligned()); },
     "moments"},
    {"weight unaligned", [](PackCall& c) { use_norm(c), c.input.weight = unaligned(); }, "weight"},
    {"modulation scale of other images",
     [](PackCall& c) { use_norm(c), c.input.modulation_scale = somewhere(2, 192); },
     "modulation_scale [1, 192]"},
    {"modulation scale with a row stride",
     [](PackCall& c) {
       use_norm(c);
       c.input.modulation_scale = somewhere(1, 192);
       c.input.modulation_scale.row_stride = 200;
     },
     "a row stride of modulation_scale"},
    {"modulation shift unaligned",
     [](PackCall& c) {
       use_norm(c);
       c.input.modulation_shift = somewhere(1, 192);
       c.input.modulation_shift.data = unaligned();
     },
     "modulation_shift"},
    {"negative image_tokens", [](PackCall& c) { use_norm(c), c.input.image_tokens = -1; },
     "image_tokens"},
    {"transform of another block", [](PackCall& c) { use_transform(c, 32); }, "16, 64 or 128"},
    {"transform that does not divide K", [](PackCall& c) { use_transform(c, 128); }, "192 and 128"},
    {"transform unaligned",
     [](PackCall& c) { use_transform(c, 64), c.input.transform = unaligned(); }, "transform"},
};

struct ProductCall {
  gpu::PackedInput packed{.tokens = 100,
                          .channels = 192,
                          .operand = address(),
                          .scale = floats(address()),
                          .low = somewhere(100, 128)};
  std::vector<Product24> products{
      {.weight = somewhere(264, 192), .up = somewhere(264, 64), .y = somewhere(100, 264)},
      {.weight = somewhere(512, 192),
       .up = somewhere(512, 64),
       .low_column = 64,
       .y = somewhere(100, 512)}};
  Gemm24Config config{.path = Gemm24Config::Path::sm80};
  gpu::Workspace workspace = {};

  Product24& last() { return products.back(); }
  void operator()() const { gpu::product24(packed, products, config, workspace, nullptr); }
};

const std::vector<Rule<ProductCall>> kProductRules = {
    {"no tokens", [](ProductCall& c) { c.packed.tokens = 0; }, "1 to 2^30 tokens"},
    {"no channels", [](ProductCall& c) { c.packed.channels = 0; }, "1 to 2^30 tokens and channels"},
    {"too many tokens", [](ProductCall& c) { c.packed.tokens = std::int64_t{1} << 31; }, "2^30"},
    {"fp32", [](ProductCall& c) { c.packed.dtype = DType::f32; }, "bf16 or f16, got f32"},
    {"K not a multiple of 16", [](ProductCall& c) { c.packed.channels = 184; }, "divisible by 16"},
    {"operand null", [](ProductCall& c) { c.packed.operand = nullptr; }, "operand"},
    {"operand unaligned", [](ProductCall& c) { c.packed.operand = unaligned(); }, "operand"},
    {"scale null", [](ProductCall& c) { c.packed.scale = nullptr; }, "scale"},
    {"scale unaligned", [](ProductCall& c) { c.packed.scale = floats(unaligned()); }, "scale"},
    {"low null", [](ProductCall& c) { c.packed.low.data = nullptr; }, "low"},
    {"low unaligned", [](ProductCall& c) { c.packed.low.data = unaligned(); }, "low"},
    {"low of other tokens", [](ProductCall& c) { c.packed.low.rows = 99; }, "low [100, 128]"},
    {"low of another type", [](ProductCall& c) { c.packed.low.dtype = DType::f16; }, "low"},
    {"low with a row stride", [](ProductCall& c) { c.packed.low.row_stride = 132; },
     "a row stride of low divisible by 8, got 132"},
    {"no low", [](ProductCall& c) { c.packed.low = {}; }, "low"},
    {"no products", [](ProductCall& c) { c.products.clear(); }, "1 to 4 products, got 0"},
    {"too many products", [](ProductCall& c) { c.products.resize(5, c.last()); },
     "1 to 4 products, got 5"},
    {"several ranks",
     [](ProductCall& c) {
       c.last().up = somewhere(512, 48);
       c.last().low_column = 64;
     },
     "one rank for all"},
    {"a rank beside none", [](ProductCall& c) { c.last().up = {}; }, "one rank for all"},
    {"rank not a multiple of 16",
     [](ProductCall& c) { c.products = {{.weight = somewhere(8, 192), .up = somewhere(8, 24)}}; },
     "a rank of 0 to 128, divisible by 16, got 24"},
    {"rank above 128",
     [](ProductCall& c) { c.products = {{.weight = somewhere(8, 192), .up = somewhere(8, 144)}}; },
     "a rank of 0 to 128, divisible by 16, got 144"},
    {"a first column inside 16", [](ProductCall& c) { c.last().low_column = 40; },
     "a first column of low divisible by 16, got 40"},
    {"columns beyond low", [](ProductCall& c) { c.last().low_column = 80; }, "64 from column 80"},
    {"no outputs",
     [](ProductCall& c) {
       c.last().weight = somewhere(0, 192);
       c.last().up = somewhere(0, 64);
       c.last().y = somewhere(100, 0);
     },
     "outputs N of 1 to 2^30"},
    {"N not a multiple of 8",
     [](ProductCall& c) {
       c.last().weight = somewhere(508, 192);
       c.last().up = somewhere(508, 64);
       c.last().y = contiguous(address(), DType::bf16, 100, 508);
     },
     "divisible by 8, got 508"},
    {"weight of another K", [](ProductCall& c) { c.last().weight.columns = 176; }, "weight"},
    {"weight null", [](ProductCall& c) { c.last().weight.data = nullptr; }, "weight"},
    {"weight unaligned", [](ProductCall& c) { c.last().weight.data = unaligned(); }, "weight"},
    {"weight with a row stride", [](ProductCall& c) { c.last().weight.row_stride = 196; },
     "a row stride of weight divisible by 8, got 196"},
    {"up null", [](ProductCall& c) { c.last().up.data = nullptr; }, "up"},
    {"up unaligned", [](ProductCall& c) { c.last().up.data = unaligned(); }, "up"},
    {"up with a row stride", [](ProductCall& c) { c.last().up.row_stride = 68; }, "stride of up"},
    {"bias unaligned", [](ProductCall& c) { c.last().bias = unaligned(); }, "bias"},
    {"bias of another type",
     [](ProductCall& c) {
       c.last().bias = address();
       c.last().bias_dtype = DType::f16;
     },
     "a bias of f32 or bf16, got f16"},
    {"no such activation", [](ProductCall& c) { c.last().activation = static_cast<Activation>(9); },
     "a known activation, got 9"},
    {"gate of other images", [](ProductCall& c) { c.last().gate = somewhere(3, 512); },
     "gate [1, 512]"},
    {"gate unaligned",
     [](ProductCall& c) {
       c.last().gate = somewhere(1, 512);
       c.last().gate.data = unaligned();
     },
     "gate"},
    {"negative image_tokens", [](ProductCall& c) { c.last().image_tokens = -1; }, "image_tokens"},
    {"residual of other tokens", [](ProductCall& c) { c.last().residual = somewhere(99, 512); },
     "residual [100, 512]"},
    {"residual with a row stride",
     [](ProductCall& c) {
       c.last().residual = somewhere(100, 512);
       c.last().residual.row_stride = 516;
     },
     "a row stride of residual"},
    {"y null", [](ProductCall& c) { c.last().y.data = nullptr; }, "data for Y"},
    {"y unaligned", [](ProductCall& c) { c.last().y.data = unaligned(); }, "y"},
    {"y with a row stride", [](ProductCall& c) { c.last().y.row_stride = 516; }, "stride of y"},
    {"y of other tokens", [](ProductCall& c) { c.last().y.rows = 99; }, "Y [100, 512]"},
};

constexpr Gemm24Config kSm80{.path = Gemm24Config::Path::sm80};
constexpr Gemm24Config kSm90{
    .path = Gemm24Config::Path::sm90, .tile_tokens = 128, .tile_outputs = 256, .stream_k = true};

TEST(GpuArguments, PackRefusesEveryBrokenRule) { expect_all_refused(kPackRules, "gpu::pack24"); }

TEST(GpuArguments, ProductsRefuseEveryBrokenRule) {
  for (const Gemm24Config& config : {kSm80, kSm90}) {
    expect_all_refused(kProductRules, "gpu::product24", {.config = config});
  }
}

class ArgumentsGpuTest : public testing::GpuTest {
 protected:
  bool has_sm90() const { return gpu::current_device().compute_capability == 90; }
};

TEST_F(ArgumentsGpuTest, NothingWasLaunchedByBrokenRules) {
  expect_all_refused(kPackRules, "gpu::pack24");
  expect_all_refused(kProductRules, "gpu::product24");
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

void expect_product_refused(const std::string& rule, const Gemm24Config& config,
                            const std::string& required) {
  expect_refused(rule, required, ProductCall{.config = config});
}

TEST_F(ArgumentsGpuTest, PathDenseIsTheCallers) {
  expect_product_refused("path dense", {}, "path sm80 or sm90: the caller runs dense products");
}

TEST_F(ArgumentsGpuTest, TheWorkspaceHasToBeThereAndLargeEnough) {
  if (!has_sm90()) GTEST_SKIP() << "no GPU of compute capability 9.0";
  const std::size_t bytes = gpu::product24_workspace_bytes(kSm90, gpu::current_device());
  ASSERT_GT(bytes, 0u);
  ProductCall call{.config = kSm90};
  expect_refused("no workspace", "workspace in device memory", call);
  call.workspace = {address(), bytes - 1};
  expect_refused("workspace too small", "a workspace of " + std::to_string(bytes), call);
  call.workspace = {unaligned(), bytes};
  expect_refused("workspace unaligned", "workspace in device memory", call);
}

TEST_F(ArgumentsGpuTest, TheWorkspaceOfAPackHasToBeThereAndLargeEnough) {
  if (!has_sm90()) GTEST_SKIP() << "no GPU of compute capability 9.0";
  const std::size_t bytes = gpu::pack24_workspace_bytes(64, gpu::current_device());
  ASSERT_GT(bytes, gpu::pack24_workspace_bytes(0, gpu::current_device()));
  PackCall call;
  expect_refused("no workspace", "workspace in device memory", call);
  call.workspace = {address(), bytes - 1};
  expect_refused("workspace too small", "a workspace of " + std::to_string(bytes), call);
  call.workspace = {unaligned(), bytes};
  expect_refused("workspace unaligned", "workspace in device memory", call);
}

TEST_F(ArgumentsGpuTest, ConfigurationsThatDoNotExist) {
  if (!has_sm90()) GTEST_SKIP() << "no GPU of compute capability 9.0";
  const std::string required = "a tile of 128x256, a cluster of 1 or 2, a group of 1 or more";
  Gemm24Config config = kSm90;
  config.stream_k = false;
  config.group_tiles = 0;
  expect_product_refused("no group", config, required);
  config.group_tiles = 8;
  config.tile_tokens = 64;
  expect_product_refused("another tile of tokens", config, required);
  config.tile_tokens = 128;
  config.tile_outputs = 192;
  expect_product_refused("another tile of outputs", config, required);
  config.tile_outputs = 256;
  config.cluster = 4;
  expect_product_refused("another cluster", config, required);
}

TEST_F(ArgumentsGpuTest, OnlyStreamKNeedsAWorkspace) {
  const gpu::DeviceTraits device = gpu::current_device();
  EXPECT_EQ(gpu::product24_workspace_bytes(kSm80, device), 0u);
  Gemm24Config config = kSm90;
  EXPECT_GT(gpu::product24_workspace_bytes(config, device), 0u);
  config.stream_k = false;
  EXPECT_EQ(gpu::product24_workspace_bytes(config, device), 0u);
}

}  // namespace
}  // namespace rtlynx
