// SPDX-License-Identifier: Apache-2.0
#include "plot/line_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "xml_reader.h"

namespace rtlynx {
namespace {

TEST(LineChart, DrawsAPointPerValue) {
  const std::string svg = to_svg(LineChart{.title = "a < b",
                                           .subtitle = "&",
                                           .x_axis = "time",
                                           .y_axis = "error",
                                           .x = {0, 1, 4},
                                           .series = {{"one", {0.0, 0.5, 1.0}}}});
  EXPECT_EQ(test::XmlReader(svg).complaint(), "");
  EXPECT_THAT(svg, testing::HasSubstr("points=\"90.0,376.0 250.0,236.0 730.0,96.0 \""));
}

TEST(LineChart, TicksAreRoundWhateverTheRange) {
  const std::string svg = to_svg(LineChart{.x = {-3.9, 0, 3.9}, .series = {{"one", {0, 1, 0}}}});
  EXPECT_THAT(svg, testing::HasSubstr("text-anchor=\"middle\">-3</text>"));
  EXPECT_THAT(svg, testing::HasSubstr("text-anchor=\"middle\">3</text>"));
  EXPECT_THAT(svg, testing::Not(testing::HasSubstr(">4</text>")));
}

TEST(LineChart, WithoutDataItIsStillAPicture) {
  EXPECT_EQ(test::XmlReader(to_svg(LineChart{})).complaint(), "");
  EXPECT_EQ(test::XmlReader(to_svg(LineChart{.x = {3}, .series = {{"one", {0}}}})).complaint(), "");
}

TEST(LineChart, WrongNumbersOfValuesAreRefused) {
  EXPECT_THROW(to_svg(LineChart{.x = {1, 2}, .series = {{"one", {1}}}}), Error);
  EXPECT_THROW(to_svg(LineChart{.series = std::vector<LineChart::Series>(7)}), Error);
}

}  // namespace
}  // namespace rtlynx
