// SPDX-License-Identifier: Apache-2.0
#include "step_benchmark/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"

namespace rtlynx::step_benchmark {
namespace {

using ::testing::HasSubstr;

StepResult synthetic() {
  StepResult result{.family = "flux",
                    .gpu = "GPU",
                    .date = "2026-01-02",
                    .tokens = {.image = 4096, .text = 512},
                    .side = 1024,
                    .batch = 2,
                    .checked = {.run = 6, .all = 60},
                    .weights_gib = 22};
  result.variants.resize(2);
  VariantResult& dense = result.variants[0];
  dense.variant.name = "dense";
  dense.ms = {12, 10, 11};
  VariantResult& sparse = result.variants[1];
  sparse.variant = {.name = "paper-block64", .sparse = true, .rank = 64, .transform_block = 64};
  sparse.sparse_layers = {"a", "b"};
  sparse.distances = {.fused = 0.02, .plain = 0.01};
  sparse.activations_gib = 1.5;
  sparse.ms = {8, 9};
  sparse.ms_by_class = {{"pack", 2}, {"attention", 3}};
  return result;
}

TEST(StepReportTest, JsonNamesWhatRanAndHow) {
  const auto report = to_json(synthetic());
  EXPECT_EQ(report["family"], "flux");
  EXPECT_EQ(report["gpu"], "GPU");
  EXPECT_EQ(report["date"], "2026-01-02");
  EXPECT_EQ(report["image_tokens"], 4096);
  EXPECT_EQ(report["side"], 1024);
  EXPECT_EQ(report["batch"], 2);
  EXPECT_EQ(report["blocks"], 60);
  EXPECT_EQ(report["blocks_compared_with_fp32"], 6);
  EXPECT_EQ(report["weights_gib"], 22);
  const auto& dense = report["variants"][0];
  EXPECT_EQ(dense["name"], "dense");
  EXPECT_EQ(dense["rank"], 0);
  EXPECT_EQ(dense["ms"], 11);
  EXPECT_FALSE(dense.contains("distance_to_fp32"));
  const auto& sparse = report["variants"][1];
  EXPECT_EQ(sparse["rank"], 64);
  EXPECT_EQ(sparse["transform_block"], 64);
  EXPECT_EQ(sparse["ms"], 8.5);
  EXPECT_EQ(sparse["ms_rounds"], (std::vector<double>{8, 9}));
  EXPECT_EQ(sparse["sparse_layers"], (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(sparse["ms_by_class"]["attention"], 3);
  EXPECT_EQ(sparse["distance_to_fp32"], 0.02);
  EXPECT_EQ(sparse["distance_of_plain_path_to_fp32"], 0.01);
}

TEST(StepReportTest, TextHasALineForEachVariant) {
  const std::string text = to_text(synthetic());
  EXPECT_THAT(text, HasSubstr("4096 image and 512 text tokens, batch 2"));
  EXPECT_THAT(text, HasSubstr("0.0200 from fp32, the plain path 0.0100 (6 of 60 blocks)"));
  EXPECT_THAT(text, HasSubstr("11.00 ms, 0 sparse layers, 22.0 GiB"));
  EXPECT_THAT(text, HasSubstr("8.50 ms, 2 sparse layers, 23.5 GiB; attention 3.0 pack 2.0"));
}

TEST(StepReportTest, ARoundIsTheLastOfEach) {
  EXPECT_EQ(last_round(synthetic()).dump(), R"({"dense":11.0,"paper-block64":9.0})");
}

TEST(StepReportTest, TwiceThePlainPathIsAsFarAsOneMayBe) {
  StepResult result = synthetic();
  EXPECT_NO_THROW(refuse_wrong(result));
  result.variants[1].distances->fused = 0.0201;
  EXPECT_THROW(refuse_wrong(result), Error);
}

TEST(StepReportTest, NanIsWrong) {
  StepResult result = synthetic();
  result.variants[1].distances->fused = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(refuse_wrong(result), Error);
}

}  // namespace
}  // namespace rtlynx::step_benchmark
