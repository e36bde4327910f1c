// SPDX-License-Identifier: Apache-2.0
// Every rule of the GPU headers, broken once. The addresses are not memory: had anything been
// launched, the device would say so. Most rules are checked before a device is looked for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "gpu/gpu_test.h"
#include "rtlynx/error.h"
#include "rtlynx/gpu/gemm24.h"
#include "rtlynx/gpu/pack24.h"

namespace rtlynx {
namespace {

using gpu::Gemm24;
using gpu::Gemm24Config;
using gpu::Pack24;
using gpu::Producer;

void* address(std::uintptr_t value = 0x10000) { return reinterpret_cast<void*>(value); }
void* unaligned() { return address(0x10008); }

template <typename Problem>
struct Rule {
  const char* name;
  std::function<void(Problem&)> break_it;
};

template <typename Run>
void expect_refused(const std::string& rule, const std::string& op, Run run) {
  using ::testing::HasSubstr;
  using ::testing::ThrowsMessage;
  EXPECT_THAT(run, ThrowsMessage<Error>(HasSubstr(op))) << rule;
}

Pack24 good_pack() {
  return {.x = contiguous(static_cast<const void*>(address()), DType::bf16, 100, 192),
          .operand = address(),
          .scale = static_cast<float*>(address()),
          .down = contiguous(static_cast<const void*>(address()), DType::bf16, 64, 192),
          .low = address()};
}

void use_transform(Pack24& p, int block) {
  p.transform = address();
  p.transform_block = block;
}

const std::vector<Rule<Pack24>> kPackRules = {
    {"fp32", [](Pack24& p) { p.x.dtype = DType::f32; }},
    {"K not a multiple of 16", [](Pack24& p) { p.x.columns = 184; }},
    {"row stride below K", [](Pack24& p) { p.x.row_stride = 176; }},
    {"row stride not a multiple of 16", [](Pack24& p) { p.x.row_stride = 200; }},
    {"negative tokens", [](Pack24& p) { p.x.rows = -1; }},
    {"too many tokens", [](Pack24& p) { p.x.rows = std::int64_t{1} << 31; }},
    {"X null", [](Pack24& p) { p.x.data = nullptr; }},
    {"X unaligned", [](Pack24& p) { p.x.data = unaligned(); }},
    {"operand null", [](Pack24& p) { p.operand = nullptr; }},
    {"operand unaligned", [](Pack24& p) { p.operand = unaligned(); }},
    {"scale unaligned", [](Pack24& p) { p.scale = static_cast<float*>(unaligned()); }},
    {"rank not a multiple of 16", [](Pack24& p) { p.down.rows = 24; }},
    {"rank above 256", [](Pack24& p) { p.down.rows = 272; }},
    {"down of another K", [](Pack24& p) { p.down.columns = p.down.row_stride = 176; }},
    {"down of another type", [](Pack24& p) { p.down.dtype = DType::f16; }},
    {"down not contiguous", [](Pack24& p) { p.down.row_stride = 208; }},
    {"down null", [](Pack24& p) { p.down.data = nullptr; }},
    {"down unaligned", [](Pack24& p) { p.down.data = unaligned(); }},
    {"low null", [](Pack24& p) { p.low = nullptr; }},
    {"low unaligned", [](Pack24& p) { p.low = unaligned(); }},
    {"no such producer", [](Pack24& p) { p.producer = static_cast<Producer>(99); }},
    {"swiglu without up", [](Pack24& p) { p.producer = Producer::swiglu; }},
    {"up unaligned",
     [](Pack24& p) {
       p.producer = Producer::swiglu;
       p.up = unaligned();
     }},
    {"multiplier unaligned",
     [](Pack24& p) {
       p.producer = Producer::rms_norm;
       p.multiplier = unaligned();
     }},
    {"shift unaligned",
     [](Pack24& p) {
       p.producer = Producer::layer_norm;
       p.shift = unaligned();
     }},
    {"negative image_tokens",
     [](Pack24& p) {
       p.producer = Producer::layer_norm;
       p.image_tokens = -1;
     }},
    {"transform of another block", [](Pack24& p) { use_transform(p, 32); }},
    {"transform that does not divide K", [](Pack24& p) { use_transform(p, 128); }},
    {"transform unaligned",
     [](Pack24& p) {
       use_transform(p, 64);
       p.transform = unaligned();
     }},
    {"selected_from unaligned", [](Pack24& p) { p.selected_from = unaligned(); }},
};

Gemm24 good_gemm() {
  return {.shape = {.tokens = 100, .outputs = 2304, .channels = 192, .rank = 64},
          .operand = address(),
          .weight = address(),
          .low = address(),
          .up = address(),
          .y = address()};
}

void use_segments(Gemm24& p, int count, std::int64_t first, std::int64_t second,
                  std::int64_t third) {
  p.segments = count;
  p.segment_ends = {first, second, third};
}

const std::vector<Rule<Gemm24>> kGemmRules = {
    {"no tokens", [](Gemm24& p) { p.shape.tokens = 0; }},
    {"no outputs", [](Gemm24& p) { p.shape.outputs = 0; }},
    {"no channels", [](Gemm24& p) { p.shape.channels = 0; }},
    {"too many tokens", [](Gemm24& p) { p.shape.tokens = std::int64_t{1} << 31; }},
    {"fp32", [](Gemm24& p) { p.shape.dtype = DType::f32; }},
    {"N not a multiple of 8", [](Gemm24& p) { p.shape.outputs = 2300; }},
    {"K not a multiple of 16", [](Gemm24& p) { p.shape.channels = 184; }},
    {"rank not a multiple of 16", [](Gemm24& p) { p.shape.rank = 24; }},
    {"rank above 128", [](Gemm24& p) { p.shape.rank = 144; }},
    {"negative rank", [](Gemm24& p) { p.shape.rank = -16; }},
    {"sparse weight", [](Gemm24& p) { p.sparse = gpu::SparseOperand::weight; }},
    {"operand null", [](Gemm24& p) { p.operand = nullptr; }},
    {"operand unaligned", [](Gemm24& p) { p.operand = unaligned(); }},
    {"weight null", [](Gemm24& p) { p.weight = nullptr; }},
    {"weight unaligned", [](Gemm24& p) { p.weight = unaligned(); }},
    {"low null", [](Gemm24& p) { p.low = nullptr; }},
    {"low unaligned", [](Gemm24& p) { p.low = unaligned(); }},
    {"up null", [](Gemm24& p) { p.up = nullptr; }},
    {"up unaligned", [](Gemm24& p) { p.up = unaligned(); }},
    {"scale unaligned", [](Gemm24& p) { p.scale = static_cast<float*>(unaligned()); }},
    {"bias unaligned", [](Gemm24& p) { p.bias = static_cast<float*>(unaligned()); }},
    {"gate unaligned", [](Gemm24& p) { p.gate = unaligned(); }},
    {"residual unaligned", [](Gemm24& p) { p.residual = unaligned(); }},
    {"y null", [](Gemm24& p) { p.y = nullptr; }},
    {"y unaligned", [](Gemm24& p) { p.y = unaligned(); }},
};

/// Rules that hold for a path: a device is needed.
const std::vector<Rule<Gemm24>> kSegmentRules = {
    {"no segments", [](Gemm24& p) { p.segments = 0; }},
    {"too many segments", [](Gemm24& p) { p.segments = gpu::kMaxSegments + 1; }},
    {"rank not a multiple of 32",
     [](Gemm24& p) {
       use_segments(p, 3, 768, 1536, 2304);
       p.shape.rank = 48;
     }},
    {"ends that do not rise", [](Gemm24& p) { use_segments(p, 3, 768, 768, 2304); }},
    {"an end inside a tile", [](Gemm24& p) { use_segments(p, 3, 776, 1536, 2304); }},
    {"a last end before N", [](Gemm24& p) { use_segments(p, 3, 768, 1536, 2296); }},
    {"a last end behind N", [](Gemm24& p) { use_segments(p, 3, 768, 1536, 3072); }},
};

constexpr Gemm24Config kSm80{.path = Gemm24Config::Path::sm80};
constexpr Gemm24Config kSm90{
    .path = Gemm24Config::Path::sm90, .tile_tokens = 128, .tile_outputs = 256, .stream_k = true};

void expect_gemm_refused(const std::string& rule, const Gemm24& problem,
                         const Gemm24Config& config) {
  expect_refused(rule, "gpu::gemm24: required", [&] { gpu::gemm24(problem, config, nullptr); });
}

TEST(GpuArguments, PackRefusesEveryBrokenRule) {
  for (const auto& [name, break_it] : kPackRules) {
    Pack24 problem = good_pack();
    break_it(problem);
    expect_refused(name, "gpu::pack24: required", [&] { gpu::pack24(problem, nullptr); });
  }
}

TEST(GpuArguments, GemmRefusesEveryBrokenRule) {
  for (const auto& [name, break_it] : kGemmRules) {
    Gemm24 problem = good_gemm();
    break_it(problem);
    for (const Gemm24Config& config : {kSm80, kSm90}) expect_gemm_refused(name, problem, config);
  }
}

class ArgumentsGpuTest : public testing::GpuTest {
 protected:
  bool has_sm90() const { return gpu::current_device().compute_capability == 90; }
};

TEST_F(ArgumentsGpuTest, NothingWasLaunchedByBrokenRules) {
  for (const auto& [name, break_it] : kPackRules) {
    Pack24 problem = good_pack();
    break_it(problem);
    EXPECT_THROW(gpu::pack24(problem, nullptr), Error) << name;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << name;
  }
  for (const auto& [name, break_it] : kGemmRules) {
    Gemm24 problem = good_gemm();
    break_it(problem);
    EXPECT_THROW(gpu::gemm24(problem, kSm80, nullptr), Error) << name;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << name;
  }
}

TEST_F(ArgumentsGpuTest, PathDenseIsTheCallers) {
  expect_gemm_refused("path dense", good_gemm(), {});
}

TEST_F(ArgumentsGpuTest, Segments) {
  for (const auto& [name, break_it] : kSegmentRules) {
    Gemm24 problem = good_gemm();
    break_it(problem);
    expect_gemm_refused(name, problem, kSm80);
    Gemm24Config without_workspace = kSm90;
    without_workspace.stream_k = false;
    if (has_sm90()) expect_gemm_refused(name, problem, without_workspace);
  }
}

TEST_F(ArgumentsGpuTest, TheWorkspaceHasToBeThereAndLargeEnough) {
  if (!has_sm90()) GTEST_SKIP() << "no GPU of compute capability 9.0";
  const std::size_t bytes = gpu::gemm24_workspace_bytes(kSm90, gpu::current_device());
  ASSERT_GT(bytes, 0u);
  Gemm24 problem = good_gemm();
  expect_gemm_refused("no workspace", problem, kSm90);
  problem.workspace = address();
  problem.workspace_bytes = bytes - 1;
  expect_gemm_refused("workspace too small", problem, kSm90);
  problem.workspace = unaligned();
  problem.workspace_bytes = bytes;
  expect_gemm_refused("workspace unaligned", problem, kSm90);
}

TEST_F(ArgumentsGpuTest, TheWorkspaceOfAPackHasToBeThereAndLargeEnough) {
  if (!has_sm90()) GTEST_SKIP() << "no GPU of compute capability 9.0";
  const auto expect_pack_refused = [](const std::string& rule, const Pack24& problem) {
    expect_refused(rule, "gpu::pack24: required", [&] { gpu::pack24(problem, nullptr); });
  };
  const std::size_t bytes = gpu::pack24_workspace_bytes(64, gpu::current_device());
  ASSERT_GT(bytes, gpu::pack24_workspace_bytes(0, gpu::current_device()));
  Pack24 problem = good_pack();
  expect_pack_refused("no workspace", problem);
  problem.workspace = address();
  problem.workspace_bytes = bytes - 1;
  expect_pack_refused("workspace too small", problem);
  problem.workspace = unaligned();
  problem.workspace_bytes = bytes;
  expect_pack_refused("workspace unaligned", problem);
}

TEST_F(ArgumentsGpuTest, ConfigurationsThatDoNotExist) {
  if (!has_sm90()) GTEST_SKIP() << "no GPU of compute capability 9.0";
  Gemm24Config config = kSm90;
  config.stream_k = false;
  config.group_tiles = 0;
  expect_gemm_refused("no group", good_gemm(), config);
  config.group_tiles = 8;
  config.tile_tokens = 64;
  expect_gemm_refused("another tile of tokens", good_gemm(), config);
  config.tile_tokens = 128;
  config.tile_outputs = 192;
  expect_gemm_refused("another tile of outputs", good_gemm(), config);
  config.tile_outputs = 0;
  Gemm24 segments = good_gemm();
  use_segments(segments, 3, 768, 1536, 2304);
  expect_gemm_refused("no tile to compare the segments with", segments, config);
  config.tile_outputs = 256;
  config.cluster = 4;
  expect_gemm_refused("another cluster", good_gemm(), config);
}

TEST_F(ArgumentsGpuTest, OnlyStreamKNeedsAWorkspace) {
  const gpu::DeviceTraits device = gpu::current_device();
  EXPECT_EQ(gpu::gemm24_workspace_bytes(kSm80, device), 0u);
  Gemm24Config config = kSm90;
  EXPECT_GT(gpu::gemm24_workspace_bytes(config, device), 0u);
  config.stream_k = false;
  EXPECT_EQ(gpu::gemm24_workspace_bytes(config, device), 0u);
}

}  // namespace
}  // namespace rtlynx
