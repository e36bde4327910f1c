// SPDX-License-Identifier: Apache-2.0
// The pack kernels beside the specification, where nothing computes the input.
#include "rtlynx/gpu/pack24.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>

#include "gpu/pack_case.h"

namespace rtlynx {
namespace {

using testing::hard_rows;
using testing::HostInput;
using testing::kNarrowTypes;
using testing::kPackKernels;
using testing::Matrix;
using testing::normal_matrix;
using testing::PackCase;

constexpr std::int64_t kTokens[] = {1, 15, 63, 64, 65, 130, 301};
constexpr std::int64_t kChannels[] = {16, 48, 64, 80, 1024, 3072, 3088};

class Pack24GpuTest : public testing::NarrowTypeGpuTest {
 protected:
  static Matrix normal(std::int64_t rows, std::int64_t columns, std::uint32_t seed,
                       float deviation = 1.0f) {
    return normal_matrix(GetParam(), rows, columns, seed, deviation);
  }
  static Matrix down(std::int64_t rank, std::int64_t channels) {
    return normal(rank, channels, 5, 0.05f);
  }

  static void expect_specified(const HostInput& input, std::int64_t gap = 0) {
    PackCase(input, gap).expect_specified_by_all();
  }
};

TEST_P(Pack24GpuTest, NormalRowsOfEveryShape) {
  for (const std::int64_t tokens : kTokens) {
    for (const std::int64_t channels : kChannels) {
      expect_specified({.x = normal(tokens, channels, 1)});
    }
  }
}

TEST_P(Pack24GpuTest, HardRowsOfEveryShape) {
  int first_kind = 0;
  for (const std::int64_t tokens : kTokens) {
    for (const std::int64_t channels : kChannels) {
      expect_specified({.x = hard_rows(GetParam(), tokens, channels, first_kind++)});
    }
  }
}

TEST_P(Pack24GpuTest, RowsMayLieApart) {
  for (const std::int64_t gap : {16, 48}) {
    HostInput input{.x = normal(130, 80, 2)};
    input.down = down(16, 80);
    expect_specified(input, gap);
    expect_specified({.x = hard_rows(GetParam(), 65, 1024, 0)}, gap);
  }
}

TEST_P(Pack24GpuTest, LowRankOfEverySize) {
  for (const int rank : {16, 48, 64, 80, 128, 192, 256}) {
    for (const auto& [tokens, channels] :
         {std::pair<std::int64_t, std::int64_t>{1, 16}, {15, 3072}, {65, 3088}, {301, 80}}) {
      HostInput input{.x = normal(tokens, channels, 4)};
      input.down = down(rank, channels);
      expect_specified(input);
      input.restores_norm = false;
      expect_specified(input);
    }
  }
}

TEST_P(Pack24GpuTest, WithoutTheNormHardRowsToo) {
  HostInput input{.x = hard_rows(GetParam(), 65, 80, 0)};
  input.restores_norm = false;
  expect_specified(input);
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
    HostInput input{.x = normal(tokens, channels, 9)};
    input.down = down(64, channels);
    expect_specified(input);
    input.producer = Producer::gelu;
    expect_specified(input);
  }
}

// Then one CTA has all the channels of its tokens; few tokens are shared by several.
TEST_P(Pack24GpuTest, TokensThatFillTheGpu) {
  expect_specified({.x = hard_rows(GetParam(), 26000, 272, 0)});
}

TEST_P(Pack24GpuTest, ATailIsTheRestOfTheChannels) {
  for (const auto& [before, behind] :
       {std::pair<std::int64_t, std::int64_t>{128, 16}, {128, 176}, {384, 64}, {3072, 1232}}) {
    for (const std::int64_t tokens : {1, 65, 300}) {
      HostInput input{.x = normal(tokens, before, 11)};
      input.tail = normal(tokens, behind, 12);
      for (const int rank : {0, 64, 208}) {
        input.down = down(rank, before + behind);
        expect_specified(input, /*gap=*/16);
      }
    }
  }
}

TEST_P(Pack24GpuTest, TailsOfHardRowsAndOfManyTokens) {
  HostInput hard{.x = hard_rows(GetParam(), 130, 256, 0)};
  hard.tail = hard_rows(GetParam(), 130, 80, 5);
  expect_specified(hard);
  HostInput many{.x = normal(4200, 256, 13)};
  many.tail = normal(4200, 512, 14);
  many.down = down(64, 768);
  expect_specified(many);
}

TEST_P(Pack24GpuTest, TransformsReachIntoTheTail) {
  for (const int block : {16, 64, 128}) {
    HostInput input{.x = normal(130, 256, 15)};
    input.tail = normal(130, 128, 16);
    add_transform(input, block);
    for (const int rank : {0, 64}) {
      input.down = down(rank, 384);
      expect_specified(input, /*gap=*/16);
    }
  }
}

// gpu::pack24 itself writes no z, and the bits of the fastest kernel.
TEST_P(Pack24GpuTest, ZIsForTests) {
  HostInput input{.x = normal(65, 80, 6)};
  input.down = down(48, 80);
  PackCase pack(input);
  pack.run(pack::Kernel::fastest);
  const auto operand = pack.operand();
  const auto scale = pack.scale();
  const auto low = pack.low().elements;
  const auto poisoned = testing::DeviceMatrix(GetParam(), 65, 80).read().elements;
  pack.run();
  EXPECT_EQ(pack.operand(), operand);
  EXPECT_EQ(pack.scale(), scale);
  EXPECT_EQ(pack.low().elements, low);
  EXPECT_EQ(pack.z().elements, poisoned);
}

TEST_P(Pack24GpuTest, ANotFiniteTokenSpoilsNoOtherOnesLowRank) {
  const std::int64_t tokens = 65, channels = 1024;
  HostInput input{.x = normal(tokens, channels, 7)};
  input.down = normal(64, channels, 8);
  PackCase clean(input);
  for (const std::int64_t spoilt : {0, 9, 64})
    input.x.elements[input.x.index(spoilt, 77)] = 0xffffu;
  PackCase pack(input);
  for (const auto& [kernel, name] : kPackKernels) {
    SCOPED_TRACE(name);
    clean.run(kernel);
    pack.run(kernel);
    const Matrix expected = clean.low(), low = pack.low();
    for (std::int64_t m = 0; m < tokens; ++m) {
      for (std::int64_t r = 0; r < 64; ++r) {
        if (m == 0 || m == 9 || m == 64) {
          ASSERT_TRUE(std::isnan(low.value(m, r))) << "row " << m;
        } else {
          ASSERT_EQ(low.elements[low.index(m, r)], expected.elements[low.index(m, r)])
              << "row " << m;
        }
      }
    }
  }
}

TEST_P(Pack24GpuTest, NoTokensAreNothingToDo) {
  const ConstMatrixView none{.dtype = GetParam(), .columns = 64, .row_stride = 64};
  const gpu::PackedInput packed{.dtype = GetParam(), .channels = 64};
  EXPECT_NO_THROW(gpu::pack24({.x = none}, packed, {}, nullptr));
}

INSTANTIATE_TEST_SUITE_P(Types, Pack24GpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
