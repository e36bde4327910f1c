// SPDX-License-Identifier: Apache-2.0
#include "study/analyze.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "mini/small_pipeline.h"
#include "models/recipe.h"
#include "study/analysis_charts.h"
#include "xml_reader.h"

namespace rtlynx {
namespace {

class Analyze : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    Pipeline pipeline = test::small_pipeline();
    int last = 0;
    report_ = analyze(pipeline, {.run = {.prompts = 3, .steps = 2, .batch = 2}, .rows = 50},
                      [&](int finished, int steps) {
                        EXPECT_EQ(steps, 8);  // two passes of two batches of two steps
                        EXPECT_GE(finished, last);
                        last = finished;
                      });
    EXPECT_EQ(last, 8);
    for (auto& item : named_linears(*pipeline.transformer)) {
      EXPECT_EQ(item.linear->mode(), LinearMode::dense);
    }
  }
  static nlohmann::ordered_json report_;
};
nlohmann::ordered_json Analyze::report_;

TEST_F(Analyze, ListsTheRecipesLayersAndTheirInputs) {
  EXPECT_EQ(report_["layers"].size(), 14U);  // 10 of a double block, 4 of a single block
  EXPECT_EQ(report_["inputs"].size(), 7U);   // q, k, v share theirs, and so does proj_mlp
  EXPECT_EQ(report_["inputs"][0]["name"], "transformer_blocks.0.attn.to_qkv");
  EXPECT_EQ(report_["inputs"][6]["name"], "single_transformer_blocks.0.to_qkv_mlp");
  for (const auto& input : report_["inputs"]) {
    EXPECT_GT(input["effective_rank"], 1.0) << input;
    EXPECT_LE(input["effective_rank"], input["channels"]) << input;
    EXPECT_GT(input["distribution"]["kept_energy"], 0.5) << input;
  }
}

TEST_F(Analyze, ErrorsAreThoseOfEachTreatment) {
  for (const auto& layer : report_["layers"]) {
    const auto& errors = layer["errors"];
    for (const auto& [treatment, error] : errors.items()) {
      EXPECT_GT(error["total"], 0.0) << layer["name"] << treatment;
      EXPECT_LT(error["total"], 1.0) << layer["name"] << treatment;
      EXPECT_EQ(error["by_step"].size(), 2U);
    }
  }
  for (const auto& [treatment, steps] : report_["errors_by_step"].items()) {
    EXPECT_EQ(steps.size(), 2U) << treatment;
  }
}

// By hand for one layer: all of its tokens, the activations' two largest of four.
TEST_F(Analyze, AgreesWithTheLayerItself) {
  Pipeline pipeline = test::small_pipeline();
  const std::string name = "transformer_blocks.0.ff.net.2";
  const CalibrationRun run{.prompts = 1, .steps = 1};
  const nlohmann::ordered_json report = analyze(pipeline, {.run = run, .rows = 1 << 20});
  torch::Tensor seen;
  observe_inputs(
      pipeline, run, [&](const std::string& layer) { return layer == name; },
      [&](const std::string&, const torch::Tensor& x) { seen = x.clone(); });
  const torch::InferenceMode inference;
  for (auto& item : named_linears(*pipeline.transformer)) {
    if (item.name != name) continue;
    const torch::Tensor whole = seen.matmul(item.linear->weight.t());
    const torch::Tensor groups = seen.unflatten(-1, {-1, 4});
    const torch::Tensor top = std::get<1>(groups.abs().topk(2, -1));
    const torch::Tensor kept =
        (groups * torch::zeros_like(groups).scatter(-1, top, 1.0)).flatten(-2);
    const double wanted =
        ((kept.matmul(item.linear->weight.t()) - whole).norm() / whole.norm()).item<double>();
    for (const auto& layer : report["layers"]) {
      if (layer["name"] != name) continue;
      EXPECT_NEAR(layer["errors"]["activation_naive"]["total"], wanted, 1e-5);
    }
  }
}

TEST_F(Analyze, ChartsAreWellFormedAndNameEveryLayer) {
  const auto charts = analysis_charts(report_, "test");
  ASSERT_EQ(charts.size(), 4U);
  for (const NamedChart& chart : charts) {
    EXPECT_EQ(test::XmlReader(chart.svg).complaint(), "") << chart.name;
  }
  EXPECT_THAT(charts[1].svg, testing::HasSubstr(">d0.attn.to_q<"));
  EXPECT_THAT(charts[2].svg, testing::HasSubstr(">s0.proj_mlp<"));
}

TEST(AnalysisCharts, RefuseAnotherReport) {
  try {
    analysis_charts(nlohmann::json{{"model", "x"}}, "some.json");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::StartsWith("some.json: required a report of rtlynx analyze"));
  }
}

}  // namespace
}  // namespace rtlynx
