// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/time_model.h"

#include <gtest/gtest.h>

#include "kernels/gemm/select.h"

namespace rtlynx::gpu {
namespace {

constexpr DeviceTraits kDevice{.compute_capability = kH200.compute_capability,
                               .multiprocessors = kH200.multiprocessors,
                               .shared_bytes = kSm90SharedBytes};

TEST(LinearTimes, AreTheMeasuredOnesWhereThereAre) {
  for (const MeasuredShape& row : kH200Shapes) {
    const LinearTimes times = linear_times(
        {.tokens = row.tokens, .outputs = row.outputs, .channels = row.channels, .rank = row.rank});
    EXPECT_EQ(times.dense_us, row.dense_us);
    EXPECT_EQ(times.sparse_us, row.sparse_us);
    EXPECT_EQ(times.source, "measured");
    EXPECT_GT(times.pack_us, 0);
    EXPECT_LT(times.pack_us, row.sparse_us);
  }
}

TEST(LinearTimes, OtherRanksScaleTheMeasuredOne) {
  Gemm24Shape shape{.tokens = 4096, .outputs = 12288, .channels = 3072, .rank = 64};
  const LinearTimes known = linear_times(shape);
  shape.rank = 0;
  const LinearTimes without = linear_times(shape);
  shape.rank = 128;
  const LinearTimes more = linear_times(shape);
  EXPECT_LT(*without.sparse_us, *known.sparse_us);
  EXPECT_GT(*more.sparse_us, *known.sparse_us);
  EXPECT_EQ(without.dense_us, known.dense_us);
  EXPECT_EQ(without.source, "measured at rank 64");
}

// What the choice of a kernel rests on: the two may not contradict each other.
TEST(LinearTimes, AgreeWithTheChoice) {
  for (const std::int64_t tokens : {512, 1100, 2000, 5000, 20000}) {
    for (const std::int64_t outputs : {256, 3072, 12000}) {
      for (const std::int64_t channels : {256, 3072, 12288}) {
        const Gemm24Shape shape{
            .tokens = tokens, .outputs = outputs, .channels = channels, .rank = 64};
        const bool sparse = select_gemm24(shape, kDevice).config.path != Gemm24Config::Path::dense;
        const LinearTimes times = linear_times(shape);
        EXPECT_EQ(times.source, tokens < 1024 ? "fewer than 1024 tokens" : "estimated");
        EXPECT_EQ(sparse,
                  times.sparse_us && *times.sparse_us * kH200.estimate_margin < times.dense_us)
            << tokens << " " << outputs << " " << channels;
      }
    }
  }
}

TEST(LinearTimes, SayWhyThereIsNoKernel) {
  const LinearTimes times =
      linear_times({.tokens = 4096, .outputs = 3072, .channels = 3072, .rank = 24});
  EXPECT_FALSE(times.sparse_us);
  EXPECT_GT(times.dense_us, 0);
  EXPECT_NE(times.source.find("rank 24"), std::string::npos) << times.source;
}

}  // namespace
}  // namespace rtlynx::gpu
