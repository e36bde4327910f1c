// SPDX-License-Identifier: Apache-2.0
// gpu::gemm24 by every configuration against fp64. The baseline of the errors is a dense product in
// fp32 of the same elements, rounded once.
#include "rtlynx/gpu/gemm24.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/half.h"
#include "gpu/gemm_case.h"
#include "kernels/gemm/select.h"
#include "rtlynx/operand24.h"
#include "rtlynx/pack24.h"

namespace rtlynx {
namespace {

using gpu::Activation;
using gpu::Gemm24;
using gpu::Gemm24Config;
using testing::all_configs;
using testing::GemmCase;
using testing::GemmShape;
using testing::kNarrowTypes;
using testing::Values;

class Gemm24GpuTest : public testing::NarrowTypeGpuTest {
 protected:
  float value(std::uint16_t bits) const {
    return GetParam() == DType::bf16 ? to_float(BFloat16{bits}) : to_float(Half{bits});
  }

  void expect_close(GemmCase& gemm, const Gemm24& problem, const Gemm24Config& config) {
    SCOPED_TRACE(testing::describe(problem.shape) + ", " + gpu::describe(config));
    gemm.run(problem, config);
    gemm.expect_close(problem);
  }

  /// With scale and bias, as layers have.
  void expect_close(const GemmShape& shape, const std::vector<Gemm24Config>& configs) {
    GemmCase gemm(shape, GetParam());
    Gemm24 problem = gemm.problem();
    problem.scale = gemm.scale();
    problem.bias = gemm.bias();
    for (const Gemm24Config& config : configs) expect_close(gemm, problem, config);
  }
};

TEST_P(Gemm24GpuTest, SmallAndRaggedShapes) {
  for (const GemmShape& shape :
       {GemmShape{1, 8, 16, 16}, GemmShape{1, 256, 64, 0}, GemmShape{64, 3072, 3072, 64},
        GemmShape{65, 264, 80, 48}, GemmShape{129, 520, 144, 128}, GemmShape{300, 1000, 1040, 16},
        GemmShape{700, 1160, 208, 32}}) {
    expect_close(shape, all_configs());
  }
}

TEST_P(Gemm24GpuTest, LargeShapes) {
  expect_close({512, 9216, 3072, 128}, all_configs());
  expect_close({6889, 3072, 3072, 64}, all_configs());
}

TEST_P(Gemm24GpuTest, LongProductsCutAlongK) {
  expect_close({4608, 3072, 15360, 64}, testing::stream_k_configs());
}

TEST_P(Gemm24GpuTest, EveryRank) {
  for (const int rank : {0, 16, 32, 48, 64, 80, 96, 112, 128}) {
    expect_close({130, 400, 112, rank}, all_configs());
  }
}

// Tiles walk along N alone, in groups of which the last is smaller, and all 12 together.
TEST_P(Gemm24GpuTest, EveryGroup) {
  GemmCase gemm({1500, 1000, 144, 16}, GetParam());
  for (Gemm24Config config : all_configs()) {
    for (const int group : {1, 3, 16}) {
      config.group_tiles = group;
      expect_close(gemm, gemm.problem(), config);
    }
  }
}

TEST_P(Gemm24GpuTest, EveryEpilogue) {
  GemmCase gemm({300, 1000, 1040, 48}, GetParam());
  for (int parts = 0; parts < 32; ++parts) {  // every choice of what is there
    Gemm24 problem = gemm.problem();
    if (parts & 1) problem.scale = gemm.scale();
    if (parts & 2) problem.bias = gemm.bias();
    if (parts & 4) problem.activation = Activation::gelu;
    if (parts & 8) {
      problem.gate = gemm.gate();
      problem.image_tokens = gemm.image_tokens();
    }
    if (parts & 16) problem.residual = gemm.residual();
    SCOPED_TRACE("parts " + std::to_string(parts));
    for (const Gemm24Config& config : all_configs()) expect_close(gemm, problem, config);
  }
}

TEST_P(Gemm24GpuTest, ResidualMayBeTheResult) {
  GemmCase gemm({300, 1000, 1040, 48}, GetParam());
  Gemm24 problem = gemm.problem();
  problem.scale = gemm.scale();
  problem.gate = gemm.gate();  // one row for all tokens
  problem.residual = problem.y;
  for (const Gemm24Config& config : all_configs()) expect_close(gemm, problem, config);
}

TEST_P(Gemm24GpuTest, SegmentsHaveTheirColumnsOfLow) {
  for (const int rank : {32, 64}) {
    for (const std::int64_t tokens : {100, 300}) {
      // Multiples of every tile of outputs, the last segment ragged.
      expect_close({tokens, 2000, 144, rank, {768, 1536, 2000}}, all_configs());
    }
  }
  expect_close({300, 768, 208, 64, {256, 512, 768}}, all_configs());
  expect_close({300, 2048, 208, 32, {256, 1024, 1280, 2048}}, all_configs());
}

TEST_P(Gemm24GpuTest, SmallIntegersAreExact) {
  for (const GemmShape& shape :
       {GemmShape{300, 1000, 1040, 64}, GemmShape{65, 264, 80, 48}, GemmShape{1, 8, 16, 16},
        GemmShape{257, 768, 3088, 32, {256, 768}}, GemmShape{2000, 1000, 512, 0}}) {
    GemmCase gemm(shape, GetParam(), Values::integers);
    for (const Gemm24Config& config : all_configs()) {
      SCOPED_TRACE(testing::describe(gemm.problem().shape) + ", " + gpu::describe(config));
      gemm.run(gemm.problem(), config);
      gemm.expect_exact(gemm.problem());
    }
  }
}

TEST_P(Gemm24GpuTest, TheIdentityGivesWhatWasKept) {
  const std::int64_t tokens = 130, channels = 528;
  GemmCase gemm({tokens, channels, channels}, GetParam());
  std::vector<std::uint16_t> identity(static_cast<std::size_t>(channels * channels));
  for (std::int64_t k = 0; k < channels; ++k) {
    identity[static_cast<std::size_t>(k * (channels + 1))] =
        GetParam() == DType::bf16 ? 0x3f80u : 0x3c00u;
  }
  gemm.weight().write(identity.data());
  const std::vector<std::uint16_t> kept = gemm.kept();
  for (const Gemm24Config& config : all_configs()) {
    SCOPED_TRACE(gpu::describe(config));
    gemm.run(gemm.problem(), config);
    const std::vector<std::uint16_t> y = gemm.y();
    for (std::size_t i = 0; i < y.size(); ++i) {
      ASSERT_EQ(value(y[i]), value(kept[i])) << "element " << i;  // -0 may have become 0
    }
  }
}

/// Writes `spoilt` instead of what `buffer` holds. Of Y, only what `is_spoilt` names by its index
/// may change, and it becomes infinite or NaN.
template <typename IsSpoilt>
void expect_only(GemmCase& gemm, testing::DeviceBuffer& buffer, const void* spoilt,
                 IsSpoilt is_spoilt) {
  const std::vector<std::byte> before = buffer.read();
  const std::uint16_t infinity = gemm.problem().shape.dtype == DType::bf16 ? 0x7f80u : 0x7c00u;
  for (const Gemm24Config& config : all_configs()) {
    SCOPED_TRACE(testing::describe(gemm.problem().shape) + ", " + gpu::describe(config));
    gemm.run(gemm.problem(), config);
    const std::vector<std::uint16_t> clean = gemm.y();
    buffer.write(spoilt);
    gemm.run(gemm.problem(), config);
    const std::vector<std::uint16_t> y = gemm.y();
    buffer.write(before.data());
    for (std::size_t i = 0; i < y.size(); ++i) {
      ASSERT_LT(clean[i] & 0x7fffu, infinity) << "element " << i;
      if (is_spoilt(i)) {
        ASSERT_GE(y[i] & 0x7fffu, infinity) << "element " << i;
      } else {
        ASSERT_EQ(y[i], clean[i]) << "element " << i;
      }
    }
  }
}

// Channels are ragged: the row before the NaN ends next to it.
TEST_P(Gemm24GpuTest, NotFiniteWeightsSpoilTheirOutputsOnly) {
  const std::size_t row = 70, outputs = 264;
  const auto expect_column = [&](GemmCase& gemm, testing::DeviceBuffer& buffer) {
    std::vector<std::uint16_t> rows = buffer.read<std::uint16_t>();
    const std::size_t columns = rows.size() / outputs;
    std::fill_n(rows.begin() + static_cast<std::ptrdiff_t>(row * columns), columns, 0xffffu);
    expect_only(gemm, buffer, rows.data(), [&](std::size_t i) { return i % outputs == row; });
  };
  for (const std::int64_t channels : {16, 80, 1040}) {
    GemmCase gemm({130, outputs, channels, 16}, GetParam());
    expect_column(gemm, gemm.weight());
    expect_column(gemm, gemm.up());
  }
}

TEST_P(Gemm24GpuTest, NotFiniteTokensSpoilTheirRowsOnly) {
  const std::int64_t tokens = 130, outputs = 264, channels = 80;
  GemmCase gemm({tokens, outputs, channels, 16}, GetParam());
  std::vector<std::uint16_t> kept = gemm.kept();
  const std::int64_t nan_row = 9, infinite_row = 128;
  kept[nan_row * channels + 5] = 0xffffu;
  kept[infinite_row * channels + 79] = GetParam() == DType::bf16 ? 0xff80u : 0xfc00u;

  std::vector<std::uint16_t> values(kept.size() / 2), metadata(kept.size() / 16);
  const MatrixView packed = contiguous(values.data(), GetParam(), tokens, channels / 2);
  pack24(contiguous(static_cast<const void*>(kept.data()), GetParam(), tokens, channels),
         {.values = packed, .metadata = metadata.data()});
  std::vector<std::byte> operand(gemm.operand().size());
  to_operand24(packed, metadata.data(), operand.data());
  expect_only(gemm, gemm.operand(), operand.data(), [&](std::size_t i) {
    const auto row = static_cast<std::int64_t>(i) / outputs;
    return row == nan_row || row == infinite_row;
  });
}

INSTANTIATE_TEST_SUITE_P(Types, Gemm24GpuTest, ::testing::ValuesIn(kNarrowTypes),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace rtlynx
