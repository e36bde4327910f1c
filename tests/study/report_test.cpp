// SPDX-License-Identifier: Apache-2.0
#include "study/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "io/base64.h"
#include "io/png.h"
#include "refusal.h"
#include "xml_reader.h"

namespace rtlynx {
namespace {

using testing::HasSubstr;
using testing::Not;

nlohmann::json method(const char* name, const char* kind, double error) {
  return {{"name", name},
          {"kind", kind},
          {"description", "a \"way\" <of> doing & more"},
          {"relative_cost", 0.5},
          {"velocity_error", error},
          {"velocity_error_interval", {error / 2, 2 * error}},
          {"velocity_error_by_step", {error, error / 2}},
          {"psnr", nullptr},
          {"ssim", 0.9},
          {"caption_accuracy", 0.975}};
}

ReportParts parts() {
  return {.evaluation = {{"model", "lynx<script>"},
                         {"rtlynx", "1.2.3"},
                         {"parameters", 7},
                         {"prompts", 3},
                         {"velocity_prompts", 2},
                         {"prompt_seed", 5},
                         {"steps", 2},
                         {"guidance", 4.0},
                         {"device", "cpu"},
                         {"dtype", "fp32"},
                         {"frechet_features", "net-1"},
                         {"inputs",
                          {{{"name", "in&put"},
                            {"channels", 8},
                            {"effective_rank", 3.25},
                            {"participation_ratio", 2.5}}}},
                         {"methods",
                          {method("dense", "dense", 0), method("wanda", "weight 2:4", 0.125)}}},
          .analysis = nullptr,
          .pictures = {{"wanda", {Image(4, 4), Image(4, 4)}}}};
}

// The page without its first line, which is no element.
std::string elements(const std::string& page) { return page.substr(page.find('\n') + 1); }

TEST(Report, TakesScoresThatDoNotExist) {
  ReportParts some = parts();
  some.evaluation["methods"].push_back(method("norm", "activation 2:4", 0));
  nlohmann::json& unknown = some.evaluation["methods"].back();
  unknown["velocity_error"] = nullptr;
  unknown["velocity_error_interval"] = {nullptr, nullptr};
  unknown["velocity_error_by_step"] = {nullptr, 0.5};
  const std::string page = make_report(some, "test");
  EXPECT_EQ(test::XmlReader(elements(page)).complaint(), "");
  EXPECT_THAT(page, HasSubstr("0.1250"));
  for (nlohmann::json& each : some.evaluation["methods"]) each["velocity_error"] = nullptr;
  EXPECT_THAT(make_report(some, "test"), Not(HasSubstr("<svg")));
}

TEST(Report, ShowsTheNoiseFloorThatWasMeasured) {
  ReportParts some = parts();
  EXPECT_THAT(make_report(some, "test"), Not(HasSubstr("PSNR to itself")));
  some.evaluation["noise_floor_batch"] = 32;
  some.evaluation["methods"][1]["noise_floor"] = 31.25;
  EXPECT_THAT(make_report(some, "test"), HasSubstr("<td>31.25</td>"));
}

TEST(Report, SaysWhatIsWrongWithoutAnException) {
  ReportParts wrong = parts();
  wrong.evaluation["parameters"] = "many";
  EXPECT_EQ(refusal([&] { make_report(wrong, "e.json"); }),
            "e.json: required a report of rtlynx evaluate, got another: type must be number, but "
            "is string");
  wrong = parts();
  wrong.analysis = {{"model", 3}};
  wrong.analysis_file = "a.json";
  EXPECT_THAT(refusal([&] { make_report(wrong, "e.json"); }),
              testing::StartsWith("a.json: required a report of rtlynx analyze, got another: "));
}

TEST(Report, IsOneWellFormedPage) {
  const std::string page = make_report(parts(), "test");
  EXPECT_TRUE(page.starts_with("<!DOCTYPE html>\n"));
  EXPECT_EQ(test::XmlReader(elements(page)).complaint(), "");
}

TEST(Report, ShowsEveryMethodWithItsNumbers) {
  const std::string page = make_report(parts(), "test");
  EXPECT_THAT(page, HasSubstr(">wanda</td><td class=\"left\">weight 2:4</td>"));
  EXPECT_THAT(page, HasSubstr("<td>0.1250 <small>0.0625 to 0.2500</small></td><td>-</td>"));
  EXPECT_THAT(page, HasSubstr("<td>97.5</td>"));
  EXPECT_THAT(page, HasSubstr("wanda: velocity error 0.125"));  // the bar's tip
  EXPECT_THAT(page, HasSubstr("<td>in&amp;put</td><td>8</td><td>3.2</td>"));
}

TEST(Report, EscapesWhatItIsGiven) {
  const std::string page = make_report(parts(), "test");
  EXPECT_THAT(page, HasSubstr("lynx&lt;script&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, HasSubstr("title=\"a &quot;way&quot; &lt;of&gt; doing &amp; more\""));
}

TEST(Report, NeedsNoNetwork) {
  const std::string page = make_report(parts(), "test");
  for (const char* load : {"src=\"http", "href=", "url(", "@import", "<link", "<iframe"}) {
    EXPECT_THAT(page, Not(HasSubstr(load)));
  }
  EXPECT_THAT(page, HasSubstr("src=\"data:image/png;base64,iVBORw0KGgo"));
}

TEST(Report, LeavesOutWhatWasNotMeasured) {
  ReportParts few = parts();
  few.pictures.clear();
  few.evaluation.erase("inputs");
  for (auto& entry : few.evaluation["methods"]) {
    for (const char* key :
         {"velocity_error", "velocity_error_interval", "velocity_error_by_step"}) {
      entry.erase(key);
    }
  }
  const std::string page = make_report(few, "test");
  EXPECT_EQ(test::XmlReader(elements(page)).complaint(), "");
  EXPECT_THAT(page, Not(HasSubstr("<img")));
  EXPECT_THAT(page, Not(HasSubstr("<svg")));
}

TEST(Report, ShowsPromptsOfAModelWithoutCaptions) {
  ReportParts with = parts();
  nlohmann::json& evaluation = with.evaluation;
  evaluation["pictures"] = {{{"prompt", "a <red> fox"}, {"seed", 1}},
                            {{"prompt", "a cat"}, {"seed", 2}}};
  evaluation.update({{"width", 4}, {"height", 4}, {"true_cfg", 1.0}});
  for (const char* key : {"velocity_prompts", "prompt_seed", "frechet_features"}) {
    evaluation.erase(key);
  }
  for (auto& entry : evaluation["methods"]) {
    for (const char* key : {"velocity_error", "velocity_error_interval", "velocity_error_by_step",
                            "caption_accuracy"}) {
      entry.erase(key);
    }
  }
  const std::string page = make_report(with, "test");
  EXPECT_EQ(test::XmlReader(elements(page)).complaint(), "");
  EXPECT_THAT(page, HasSubstr("<small>a &lt;red&gt; fox</small>"));
  EXPECT_THAT(page, HasSubstr("alt=\"wanda: a cat\""));
  EXPECT_THAT(page, HasSubstr("of 3 prompts, 4x4, 2 steps"));
  for (const char* missing : {"captions", "velocity", "Frechet"}) {
    EXPECT_THAT(page, Not(HasSubstr(missing)));
  }
  evaluation["pictures"] = {{{"prompt", "a cat"}, {"seed", 1}}};  // of two that there are
  EXPECT_THAT(refusal([&] { make_report(with, "e.json"); }),
              testing::StartsWith("e.json: required a report of rtlynx evaluate, got another"));
}

TEST(Report, MakesLargePicturesSmall) {
  ReportParts with = parts();
  with.pictures = {{"wanda", {Image(1024, 520)}}};
  const std::string page = make_report(with, "test");
  EXPECT_THAT(page, HasSubstr(to_base64(encode_png(Image(512, 260)))));
}

TEST(Report, ShowsLpipsWhereItWasMeasured) {
  ReportParts with = parts();
  EXPECT_EQ(make_report(with, "test").find("LPIPS"), std::string::npos);
  with.evaluation["lpips_network"] = "alex";
  with.evaluation["methods"][1]["lpips"] = 0.0123;
  with.evaluation["methods"][1]["lpips_interval"] = {0.0111, 0.0135};
  const std::string page = make_report(with, "test");
  EXPECT_NE(page.find("<th>LPIPS</th>"), std::string::npos);
  EXPECT_NE(page.find("0.0123 <small>0.0111 to 0.0135</small>"), std::string::npos);
  EXPECT_NE(page.find("Zhang et al. 2018, alex"), std::string::npos);
}

TEST(Report, RefusesOtherFiles) {
  ReportParts wrong = parts();
  wrong.evaluation.erase("methods");
  for (const auto& act : std::vector<std::function<void()>>{
           [&] { make_report(wrong, "x.json"); },
           [&] { reported_methods(wrong.evaluation, "x.json"); },
           [&] { make_report({.evaluation = nlohmann::json::array()}, "x.json"); }}) {
    try {
      act();
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(),
                  testing::StartsWith("x.json: required a report of rtlynx evaluate, got"));
    }
  }
  EXPECT_EQ(reported_methods(parts().evaluation, ""), (std::vector<std::string>{"dense", "wanda"}));
}

}  // namespace
}  // namespace rtlynx
