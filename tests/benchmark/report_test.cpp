// SPDX-License-Identifier: Apache-2.0
#include "benchmark/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "benchmark/synthetic_run.h"
#include "xml_reader.h"

namespace rtlynx::benchmark {
namespace {

using ::testing::HasSubstr;
using testing::synthetic_run;
using testing::take_out;

TEST(ReportTest, JsonEndsInTheSummary) {
  const auto report = to_json(synthetic_run(shapes_of("bench")));
  EXPECT_EQ(std::prev(report.end()).key(), "summary");
  ASSERT_EQ(report["shapes"].size(), shapes_of("bench").size());
  const auto& row = report["shapes"][0];
  EXPECT_EQ(row["m"], 4096);
  EXPECT_EQ(row["n"], 9216);
  EXPECT_EQ(row["weights"], (std::vector<int>{3072, 3072, 3072}));
  EXPECT_EQ(row["in_pass"], true);
  EXPECT_EQ(row["k"], 3072);
  EXPECT_EQ(row["count"], 19);
  EXPECT_EQ(row["path"], "sm90");
  EXPECT_EQ(row["gemm"]["rtlynx"]["burst_us"], 100);
  EXPECT_EQ(row["gemm"]["gemm_over_cublaslt_burst"], 1.5);
  EXPECT_EQ(row["linear"]["overhead_share"], 0.12);
  EXPECT_EQ(row["fused"]["producer_kind"], "norm");
  EXPECT_EQ(row["checks"][0]["contender"], "gemm");
  // 3.125 bytes for each of 4096 x 3072 elements in 10 us, of 4 TB/s.
  EXPECT_NEAR(row["pack"]["bandwidth"]["share_of_copy_burst"], 3.125 * 4096 * 3072 / 1e-5 / 4e12,
              1e-12);
}

TEST(ReportTest, WhatIsMissingIsNullWithAReason) {
  RunResult run = synthetic_run(shapes_of("flux"));
  take_out(run.shapes[0], "gemm", "cusparselt");
  run.shapes[1].gemm.config.path = gpu::Gemm24Config::Path::dense;
  const auto report = to_json(run);
  EXPECT_TRUE(report["libraries"]["cusparselt"].is_null());
  EXPECT_EQ(report["libraries"]["cusparselt_missing"], "not found");
  EXPECT_EQ(report["libraries"]["cublaslt"]["version"], "130000");
  const auto& gemm = report["shapes"][0]["gemm"];
  EXPECT_TRUE(gemm["cusparselt"].is_null());
  EXPECT_EQ(gemm["cusparselt_missing"], "taken out");
  EXPECT_TRUE(gemm["gemm_over_cusparselt_burst"].is_null());
  EXPECT_EQ(report["shapes"][1]["path"], "dense");
  const std::string text = to_text(run);
  EXPECT_THAT(text, HasSubstr("cusparselt in gemm: taken out"));
  EXPECT_THAT(text, HasSubstr("cusparselt: not found"));
  EXPECT_THAT(text, HasSubstr("cublaslt 130000 (libcublasLt.so.13)"));
}

TEST(ReportTest, TextHasATablePerSectionAndTheMeans) {
  const std::string text = to_text(synthetic_run(shapes_of("bench")));
  for (const char* part : {"GEMM", "Pack", "Linear", "FLUX.1-dev single proj_out", "Z-Image",
                           "gemm_over_cublaslt_burst", "1.500", "12.0%", "5.0%"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(ReportTest, SectionsThatWereNotRunAreNotShown) {
  RunResult run = synthetic_run(shapes_of("flux"));
  for (ShapeResult& result : run.shapes) result.sections.resize(1);
  EXPECT_THAT(to_text(run), ::testing::Not(HasSubstr("Pack (us")));
  EXPECT_FALSE(to_json(run)["shapes"][0].contains("pack"));
}

TEST(ReportTest, SweepIsListedWithItsFailures) {
  RunResult run = synthetic_run({shapes_of("flux")[0]});
  const gpu::Gemm24Config config{
      .path = gpu::Gemm24Config::Path::sm90, .tile_tokens = 128, .tile_outputs = 256, .cluster = 2};
  run.shapes[0].sweep = {{config, testing::timed("128x256c2g8", 99, 98)},
                         {config, {"128x256c2g8", std::nullopt, "refused"}}};
  const auto sweep = to_json(run)["shapes"][0]["sweep"];
  EXPECT_EQ(sweep[0]["config"], "128x256c2g8");
  EXPECT_EQ(sweep[0]["time"]["burst_us"], 99);
  EXPECT_TRUE(sweep[1]["time"].is_null());
  EXPECT_EQ(sweep[1]["time_missing"], "refused");
  EXPECT_THAT(to_text(run), HasSubstr("refused"));
}

TEST(ReportTest, PlotIsWellFormed) {
  RunResult run = synthetic_run(shapes_of("bench"));
  take_out(run.shapes[0], "linear", "cublaslt");
  const std::string svg = to_svg(run);
  EXPECT_EQ(test::XmlReader(svg).complaint(), "");
  EXPECT_THAT(svg, HasSubstr("FLUX.1-dev attn.to_qkv: GEMM, burst 1.500"));
  EXPECT_THAT(svg, HasSubstr("GPU &lt;1&gt;"));
}

TEST(ReportTest, PlotShowsTheShapesOfTheMeanIfThereAreAny) {
  const std::string groups = to_svg(synthetic_run(shapes_of("bench")));
  EXPECT_THAT(groups, HasSubstr("FLUX.1-dev attn.to_out.0: "));
  EXPECT_THAT(groups, Not(HasSubstr("FLUX.1-dev attn.to_q: ")));
  EXPECT_THAT(to_svg(synthetic_run(shapes_of("text"))), HasSubstr("text 64 ff_context.net.2: "));
}

}  // namespace
}  // namespace rtlynx::benchmark
