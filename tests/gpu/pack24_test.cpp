// SPDX-License-Identifier: Apache-2.0
// gpu::pack24 against the CPU, without producer and transform, and gpu::unpack24.
#include "rtlynx/gpu/pack24.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "gpu/pack_case.h"
#include "rtlynx/operand24.h"
#include "rtlynx/pack24.h"

namespace rtlynx {
namespace {

using testing::Elements;
using testing::hard_rows;
using testing::kNarrowTypes;
using testing::normal_elements;
using testing::PackCase;
using testing::PackShape;

constexpr std::int64_t kTokens[] = {1, 15, 63, 64, 65, 130, 301};
constexpr std::int64_t kChannels[] = {16, 48, 64, 80, 1024, 3072, 3088};

std::string name_of(const PackShape& shape) {
  return "[" + std::to_string(shape.tokens) + ", " + std::to_string(shape.channels) + "], rank " +
         std::to_string(shape.rank) + ", gap " + std::to_string(shape.gap);
}

class Pack24GpuTest : public testing::NarrowTypeGpuTest {
 protected:
  void expect_specified(const PackShape& shape, const Elements& x, const Elements& down = {}) {
    SCOPED_TRACE(name_of(shape));
    PackCase pack(shape, x, down);
    pack.run();
    EXPECT_EQ(pack.seen(), x);
    pack.expect_specified();
  }
};

TEST_P(Pack24GpuTest, NormalRowsOfEveryShape) {
  for (const std::int64_t tokens : kTokens) {
    for (const std::int64_t channels : kChannels) {
      const PackShape shape{.dtype = GetParam(), .tokens = tokens, .channels = channels};
      expect_specified(shape, normal_elements(GetParam(), tokens * channels, 1));
    }
  }
}

TEST_P(Pack24GpuTest, HardRowsOfEveryShape) {
  int first_kind = 0;
  for (const std::int64_t tokens : kTokens) {
    for (const std::int64_t channels : kChannels) {
      const PackShape shape{.dtype = GetParam(), .tokens = tokens, .channels = channels};
      expect_specified(shape, hard_rows(GetParam(), tokens, channels, first_kind++));
    }
  }
}

TEST_P(Pack24GpuTest, RowsMayLieApart) {
  for (const std::int64_t gap : {16, 48}) {
    const PackShape shape{
        .dtype = GetParam(), .tokens = 130, .channels = 80, .rank = 16, .gap = gap};
    expect_specified(shape, normal_elements(GetParam(), 130 * 80, 2),
                     normal_elements(GetParam(), 16 * 80, 3));
    const PackShape hard{.dtype = GetParam(), .tokens = 65, .channels = 1024, .gap = gap};
    expect_specified(hard, hard_rows(GetParam(), 65, 1024, 0));
  }
}

TEST_P(Pack24GpuTest, LowRankOfEverySize) {
  for (const int rank : {16, 48, 64, 80, 128, 192, 256}) {
    for (const auto& [tokens, channels] :
         {std::pair<std::int64_t, std::int64_t>{1, 16}, {15, 3072}, {65, 3088}, {301, 80}}) {
      PackShape shape{.dtype = GetParam(), .tokens = tokens, .channels = channels, .rank = rank};
      const Elements x = normal_elements(GetParam(), tokens * channels, 4);
      const Elements down = normal_elements(GetParam(), rank * channels, 5, 0.05f);
      expect_specified(shape, x, down);
      shape.scaled = false;  // then H is not divided
      expect_specified(shape, x, down);
    }
  }
}

// Runs over several blocks of tokens: ends of one, whole ones, beginnings of another. Rows so long
// that many CTAs have a piece of the same block. And 33 blocks, which runs fill a GPU of 132
// multiprocessors with.
TEST_P(Pack24GpuTest, RunsOfEveryKind) {
  for (const auto& [tokens, channels] : {std::pair<std::int64_t, std::int64_t>{5100, 320},
                                         {40000, 64},
                                         {700, 1024},
                                         {130, 20000},
                                         {4200, 768}}) {
    const PackShape shape{.dtype = GetParam(), .tokens = tokens, .channels = channels, .rank = 64};
    SCOPED_TRACE(name_of(shape));
    PackCase pack(shape, normal_elements(GetParam(), tokens * channels, 9),
                  normal_elements(GetParam(), 64 * channels, 10, 0.05f));
    gpu::Pack24 problem = pack.problem();
    for (const gpu::Producer producer : {gpu::Producer::none, gpu::Producer::gelu}) {
      problem.producer = producer;
      pack.run(problem);
      pack.expect_specified();
    }
  }
}

// Then one CTA has all the channels of its tokens; few tokens are shared by several.
TEST_P(Pack24GpuTest, TokensThatFillTheGpu) {
  const PackShape shape{.dtype = GetParam(), .tokens = 26000, .channels = 272};
  expect_specified(shape, hard_rows(GetParam(), shape.tokens, shape.channels, 0));
}

TEST_P(Pack24GpuTest, UnwantedOutputsAreNotNeeded) {
  const PackShape shape{.dtype = GetParam(), .tokens = 65, .channels = 80, .scaled = false};
  PackCase pack(shape, normal_elements(GetParam(), 65 * 80, 6));
  pack.run();
  const auto with_all = pack.operand().read();
  gpu::Pack24 problem = pack.problem();
  problem.selected_from = nullptr;
  pack.run(problem);
  EXPECT_EQ(pack.operand().read(), with_all);
}

TEST_P(Pack24GpuTest, ANotFiniteTokenSpoilsNoOtherOnesLowRank) {
  const std::int64_t tokens = 65, channels = 1024;
  const int rank = 64;
  const PackShape shape{.dtype = GetParam(), .tokens = tokens, .channels = channels, .rank = rank};
  Elements x = normal_elements(GetParam(), tokens * channels, 7);
  const Elements down = normal_elements(GetParam(), rank * channels, 8);
  PackCase clean(shape, x, down);
  clean.run();
  for (const std::int64_t spoilt : {0, 9, 64}) {
    x[static_cast<std::size_t>(spoilt * channels + 77)] = 0xffffu;
  }
  PackCase pack(shape, x, down);
  pack.run();
  const Elements expected = clean.low(), low = pack.low();
  for (std::size_t i = 0; i < low.size(); ++i) {
    const std::size_t m = i / rank;
    if (m == 0 || m == 9 || m == 64) {
      EXPECT_GT(low[i] & 0x7fffu, GetParam() == DType::bf16 ? 0x7f80u : 0x7c00u) << "row " << m;
    } else {
      EXPECT_EQ(low[i], expected[i]) << "row " << m;
    }
  }
}

TEST_P(Pack24GpuTest, NoTokensAreNothingToDo) {
  const ConstMatrixView none{.dtype = GetParam(), .columns = 64, .row_stride = 64};
  EXPECT_NO_THROW(gpu::pack24(
      {.x = none, .operand = nullptr, .scale = nullptr, .down = {}, .low = nullptr}, nullptr));
}

TEST_P(Pack24GpuTest, UnpackIsTheInverse) {
  for (const std::int64_t tokens : kTokens) {
    for (const std::int64_t channels : {16, 48, 64, 80, 3088}) {
      const PackShape shape{.dtype = GetParam(), .tokens = tokens, .channels = channels};
      SCOPED_TRACE(name_of(shape));
      const Elements x = hard_rows(GetParam(), tokens, channels, 2);
      Elements expected(x.size());
      sparsify24(contiguous(x.data(), GetParam(), tokens, channels),
                 contiguous(expected.data(), GetParam(), tokens, channels), nullptr);
      PackCase pack(shape, x);
      pack.run();
      const testing::DeviceBuffer kept(2 * x.size());
      const testing::Stream stream;
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      gpu::unpack24(pack.operand().data(), contiguous(kept.data(), GetParam(), tokens, channels),
                    stream);
      stream.wait();
      EXPECT_EQ(kept.read<std::uint16_t>(), expected);
      EXPECT_TRUE(kept.guards_intact());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Pack24GpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
