// SPDX-License-Identifier: Apache-2.0
#include "plot/bar_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "xml_reader.h"

namespace rtlynx {
namespace {

using test::XmlReader;

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t i = text.find(part); i != std::string_view::npos; i = text.find(part, i + 1)) {
    ++count;
  }
  return count;
}

TEST(XmlReaderTest, SeesWhatIsWrong) {
  EXPECT_EQ(XmlReader("<a b=\"1\"><c/>text &amp; more</a>\n").complaint(), "");
  for (const char* xml : {"", "<a>", "<a></b>", "<a b=1/>", "<a>&</a>", "<a/><b/>", "<a b=\"<\"/>",
                          "text", "<a", "</a>"}) {
    EXPECT_NE(XmlReader(xml).complaint(), "") << xml;
  }
}

TEST(BarChartTest, IsWellFormedAndHasABarPerValue) {
  const std::string svg = to_svg(
      BarChart{.title = "a < b & \"c\"",
               .subtitle = "<&>",
               .axis = "x&y",
               .series = {"one", "two <2>"},
               .groups = {{"first & last", {1.5, 0.75}}, {"<second>", {std::nullopt, 3.2}}}});
  EXPECT_EQ(XmlReader(svg).complaint(), "");
  EXPECT_EQ(count_of(svg, "<title>"), 3u);
  EXPECT_EQ(count_of(svg, "stroke-dasharray"), 1u);
  EXPECT_THAT(svg, ::testing::HasSubstr("first &amp; last: one 1.500"));
}

TEST(BarChartTest, WithoutGroupsItIsStillAPicture) {
  EXPECT_EQ(XmlReader(to_svg(BarChart{.title = "nothing", .series = {"one"}})).complaint(), "");
}

TEST(BarChartTest, BarsStandOnOneLine) {
  const std::string svg = to_svg(BarChart{.series = {"one"}, .groups = {{"a", {2.0}}}});
  // The axis ends at 2, the bar fills it, and 1 is half way.
  EXPECT_THAT(svg, ::testing::HasSubstr("y=\"96.0\" width=\"13.0\" height=\"320.0\""));
  EXPECT_THAT(svg, ::testing::HasSubstr("y1=\"256.0\""));
}

TEST(BarChartTest, TheReferenceLineIsWhereItIsAskedFor) {
  const std::string low =
      to_svg(BarChart{.series = {"one"}, .groups = {{"a", {0.5}}}, .reference = 0.25});
  EXPECT_THAT(low, ::testing::HasSubstr("y1=\"256.0\" x2=\"672.0\" y2=\"256.0\" stroke=\"#111\""));
  const std::string none =
      to_svg(BarChart{.series = {"one"}, .groups = {{"a", {0.5}}}, .reference = {}});
  EXPECT_EQ(count_of(none, "stroke-dasharray"), 0u);
}

TEST(BarChartTest, WrongNumbersOfValuesAreRefused) {
  EXPECT_THROW(to_svg(BarChart{.series = {"one"}, .groups = {{"a", {}}}}), Error);
  EXPECT_THROW(to_svg(BarChart{.series = std::vector<std::string>(7)}), Error);
}

}  // namespace
}  // namespace rtlynx
