// SPDX-License-Identifier: Apache-2.0
#include "benchmark/summary.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "benchmark/synthetic_run.h"

namespace rtlynx::benchmark {
namespace {

using testing::synthetic_run;
using testing::take_out;

TEST(SpreadTest, QuantilesAreInterpolated) {
  const Spread spread = spread_of({5, 1, 3, 2, 4});
  EXPECT_DOUBLE_EQ(spread.median, 3);
  EXPECT_DOUBLE_EQ(spread.p10, 1.4);
  EXPECT_DOUBLE_EQ(spread.p90, 4.6);
  EXPECT_DOUBLE_EQ(spread_of({1, 2}).median, 1.5);
  EXPECT_DOUBLE_EQ(spread_of({7}).p90, 7);
  EXPECT_THROW(spread_of({}), Error);
}

TEST(SummaryTest, RatiosAreRivalOverOurs) {
  const auto summary = summarize(synthetic_run(shapes_of("bench")));
  EXPECT_NEAR(summary["gemm_over_cublaslt_burst"], 1.5, 1e-12);
  EXPECT_NEAR(summary["gemm_over_cublaslt_sustained"], 1.25, 1e-12);
  EXPECT_NEAR(summary["gemm_over_cusparselt_burst"], 2, 1e-12);
  EXPECT_NEAR(summary["gemm_over_cusparselt_sustained"], 2, 1e-12);
  EXPECT_NEAR(summary["pack_over_cusparselt_compress"], 4, 1e-12);
  EXPECT_NEAR(summary["linear_over_dense_burst"], 1.4, 1e-12);
  EXPECT_NEAR(summary["linear_over_dense_sustained"], 1.2, 1e-12);
  EXPECT_NEAR(summary["overhead_share"], 0.12, 1e-12);
  EXPECT_NEAR(summary["fused_overhead_share"], 0.05, 1e-12);
  EXPECT_EQ(summary["shapes_in_mean"], 14);
  EXPECT_EQ(summary["gpu"], "GPU <1>");
  EXPECT_EQ(summary["date"], "2026-01-02");
  EXPECT_TRUE(summary["missing"].empty());
}

TEST(SummaryTest, E4m3IsMissingOnlyWhereItWasAskedFor) {
  RunResult run = synthetic_run(shapes_of("bench"));
  EXPECT_FALSE(summarize(run).contains("fp8_gemm_over_cublaslt_burst"));
  for (ShapeResult& shape : run.shapes) {
    shape.sections.push_back(
        {"e4m3", {testing::timed("rtlynx", 50, 60), testing::timed("cublaslt", 60, 75)}});
  }
  const auto summary = summarize(run);
  EXPECT_NEAR(summary["fp8_gemm_over_cublaslt_burst"], 1.2, 1e-12);
  EXPECT_NEAR(summary["fp8_gemm_over_cublaslt_sustained"], 1.25, 1e-12);
  EXPECT_TRUE(summary["fp8_gemm_over_bf16_burst"].is_null());
}

TEST(SummaryTest, TheMeanIsGeometric) {
  RunResult run = synthetic_run({shapes_of("bench")[0], shapes_of("paper")[0]});
  run.shapes[1].shape.in_mean = true;
  run.shapes[1].sections[0].figures[0] = testing::timed("rtlynx", 25, 30);
  EXPECT_NEAR(summarize(run)["gemm_over_cublaslt_burst"], std::sqrt(1.5 * 6.0), 1e-12);
}

TEST(SummaryTest, ShapesOutsideTheMeanDoNotCount) {
  std::vector<Shape> shapes = shapes_of("bench");
  shapes.push_back(shapes_of("paper")[0]);
  RunResult run = synthetic_run(shapes);
  run.shapes.back().sections[0].figures[0] = testing::timed("rtlynx", 1, 1);
  const auto summary = summarize(run);
  EXPECT_NEAR(summary["gemm_over_cublaslt_burst"], 1.5, 1e-12);
  EXPECT_EQ(summary["shapes_in_mean"], 14);
}

TEST(SummaryTest, AMissingFigureMakesTheMeanNullAndSaysWhere) {
  RunResult run = synthetic_run(shapes_of("bench"));
  take_out(run.shapes[0], "gemm", "cusparselt");
  const auto summary = summarize(run);
  EXPECT_TRUE(summary["gemm_over_cusparselt_burst"].is_null());
  EXPECT_EQ(summary["missing"]["gemm_over_cusparselt_burst"],
            "not measured for FLUX.1-dev attn.to_qkv");
  EXPECT_NEAR(summary["gemm_over_cublaslt_burst"], 1.5, 1e-12);
  EXPECT_TRUE(summary["totals"]["FLUX.1-dev"]["gemm_over_cusparselt_burst"].is_null());
}

TEST(SummaryTest, WithoutAShapeOfTheMeanAllIsNull) {
  const auto summary = summarize(synthetic_run(shapes_of("text")));
  EXPECT_TRUE(summary["gemm_over_cublaslt_burst"].is_null());
  EXPECT_TRUE(summary["overhead_share"].is_null());
  EXPECT_EQ(summary["shapes_in_mean"], 0);
}

TEST(SummaryTest, TotalsAreOfWhatTheRecipeRuns) {
  RunResult run = synthetic_run(shapes_of("flux"));
  // 38 of 152 groups take 200 rather than 100 us; what is not in the pass does not count.
  for (ShapeResult& result : run.shapes) {
    if (result.shape.name == "FLUX.1-dev single to_qkv_mlp" || !result.shape.in_pass) {
      result.sections[0].figures[0] = testing::timed("rtlynx", 200, 200);
    }
  }
  const auto totals = summarize(run)["totals"];
  const auto total = totals["FLUX.1-dev"]["gemm_over_cublaslt_burst"];
  EXPECT_NEAR(total["rtlynx_ms"], (114 * 100 + 38 * 200) / 1e3, 1e-9);
  EXPECT_NEAR(total["rival_ms"], 152 * 150 / 1e3, 1e-9);
  EXPECT_NEAR(total["ratio"], 152.0 * 150 / (114 * 100 + 38 * 200), 1e-12);
  EXPECT_FALSE(totals.contains("Z-Image"));
}

TEST(SummaryTest, WhatHasNoProducerIsNotMissedAmongTheFused) {
  RunResult run = synthetic_run(shapes_of("z-image"));
  EXPECT_NEAR(summarize(run)["fused_over_dense_burst"], 1.4, 1e-12);
  take_out(run.shapes[0], "fused", "cublaslt");
  EXPECT_TRUE(summarize(run)["fused_over_dense_burst"].is_null());
}

TEST(SummaryTest, HalfAModelHasNoTotal) {
  const RunResult run = synthetic_run({shapes_of("flux")[0]});
  EXPECT_FALSE(summarize(run)["totals"].contains("FLUX.1-dev"));
}

TEST(SummaryTest, WhereTheGemmIsDenseNothingIsOverhead) {
  RunResult run = synthetic_run(shapes_of("bench"));
  run.shapes[0].linear.config.path = gpu::Gemm24Config::Path::dense;
  take_out(run.shapes[0], "linear", "gemm");
  take_out(run.shapes[0], "fused", "pack");
  const auto summary = summarize(run);
  EXPECT_NEAR(summary["overhead_share"], 0.12, 1e-12);
  EXPECT_NEAR(summary["fused_overhead_share"], 0.05, 1e-12);
}

TEST(SummaryTest, ANegativeShareCountsAsTheSmallest) {
  RunResult run = synthetic_run({shapes_of("bench")[0]});
  run.shapes[0].sections[3].figures[1] = testing::timed("pack", 8, 8);
  EXPECT_LT(*fused_overhead_share(run.shapes[0]), 0);
  EXPECT_NEAR(summarize(run)["fused_overhead_share"], 0.001, 1e-15);
}

}  // namespace
}  // namespace rtlynx::benchmark
