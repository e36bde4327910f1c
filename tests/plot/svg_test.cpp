// SPDX-License-Identifier: Apache-2.0
#include "plot/svg.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "xml_reader.h"

namespace rtlynx {
namespace {

TEST(Svg, EscapesWhatWouldEndATagOrAnAttribute) {
  EXPECT_EQ(escape_markup("a<b>&\"c\" d"), "a&lt;b&gt;&amp;&quot;c&quot; d");
}

TEST(Svg, EveryElementIsWellFormed) {
  SvgWriter svg(100, 50);
  svg.text(1, 2, "start", "<&>", "fill=\"red\"");
  svg.rect(0, 0, 5, 5, "blue");
  svg.rect(0, 0, 5, 5, "blue", "a \"tip\"");
  svg.line(0, 0, 1, 1, "stroke=\"black\"");
  svg.polyline(std::vector<std::pair<double, double>>{{0, 1}, {2, 3}}, "green");
  EXPECT_EQ(test::XmlReader(svg.finish()).complaint(), "");
  EXPECT_THROW(series_colour(kSeriesColours), Error);
}

TEST(RoundAxis, HoldsTheHighestInFewRoundSteps) {
  for (const double highest : {0.0123, 0.3, 0.8670001, 1.0, 1.25, 2.0, 3.3, 8.0, 8.1, 99.0, 1e6}) {
    const Axis axis = round_axis(highest);
    EXPECT_GE(axis.top, highest * (1 - 1e-9));
    EXPECT_LE(axis.top / axis.step, 8 + 1e-9);
    EXPECT_GE(axis.top / axis.step, 3);
    EXPECT_NEAR(axis.top / axis.step, std::round(axis.top / axis.step), 1e-9);
  }
  EXPECT_EQ(round_axis(2.0).top, 2.0);
  EXPECT_EQ(round_axis(0).top, 1.0);
  EXPECT_EQ(round_axis(std::numeric_limits<double>::infinity()).top, 1.0);
}

}  // namespace
}  // namespace rtlynx
