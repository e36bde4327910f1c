// SPDX-License-Identifier: Apache-2.0
#include "plot/bar_chart.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "plot/svg.h"

namespace rtlynx {
namespace {

constexpr double kLeft = 112, kTop = 96, kRight = 24, kBottom = 150;
constexpr double kAxisTitle = 60;  // x of the title of the vertical axis
constexpr double kPlotHeight = 320;
constexpr double kGroupGap = 18;
constexpr double kNarrowest = 560;  // room for the legend

// Of the bars, with room above the reference line.
double highest_value(const BarChart& chart) {
  double highest = 1.25 * chart.reference.value_or(0);
  for (const BarChart::Group& group : chart.groups) {
    for (const auto& value : group.values) highest = std::max(highest, value.value_or(0));
  }
  return highest;
}

class Drawing {
 public:
  explicit Drawing(const BarChart& chart)
      : chart_(chart),
        group_width_(chart.bar_width * static_cast<double>(chart.series.size()) + kGroupGap),
        plot_width_(std::max(kNarrowest, group_width_ * static_cast<double>(chart.groups.size()))),
        axis_(round_axis(highest_value(chart))),
        svg_(kLeft + plot_width_ + kRight, kTop + kPlotHeight + kBottom) {}

  std::string svg() {
    svg_.heading(kLeft, chart_.title, chart_.subtitle, chart_.series);
    draw_grid();
    for (std::size_t i = 0; i < chart_.groups.size(); ++i) draw_group(i);
    if (chart_.reference) {
      horizontal(*chart_.reference, "stroke=\"#111\" stroke-dasharray=\"5 4\"");
    }
    return svg_.finish();
  }

 private:
  double y_of(double value) const { return kTop + kPlotHeight * (1 - value / axis_.top); }

  void horizontal(double value, std::string_view style) {
    svg_.line(kLeft, y_of(value), kLeft + plot_width_, y_of(value), style);
  }

  void draw_grid() {
    const double middle = kTop + kPlotHeight / 2;
    svg_.text(kAxisTitle, middle, "middle", chart_.axis,
              fmt::format("transform=\"rotate(-90 {} {:.1f})\"", kAxisTitle, middle));
    for (int i = 0; i * axis_.step <= axis_.top * (1 + 1e-9); ++i) {
      const double value = i * axis_.step;
      horizontal(value, i == 0 ? "stroke=\"#333\"" : "stroke=\"#ddd\"");
      svg_.text(kLeft - 8, y_of(value) + 4, "end", fmt::format("{:.4g}", value));
    }
  }

  void draw_group(std::size_t index) {
    const BarChart::Group& group = chart_.groups[index];
    const double left = kLeft + group_width_ * static_cast<double>(index) + kGroupGap / 2;
    for (std::size_t i = 0; i < group.values.size(); ++i) {
      if (!group.values[i]) continue;
      const double y = y_of(*group.values[i]);
      svg_.rect(left + chart_.bar_width * static_cast<double>(i), y, chart_.bar_width - 1,
                kTop + kPlotHeight - y, series_colour(i),
                fmt::format("{}: {} {:.3f}", group.label, chart_.series[i], *group.values[i]));
    }
    const double x = left + (group_width_ - kGroupGap) / 2, y = kTop + kPlotHeight + 16;
    svg_.text(x, y, "end", group.label,
              fmt::format("transform=\"rotate(-40 {:.1f} {:.1f})\"", x, y));
  }

  const BarChart& chart_;
  double group_width_;
  double plot_width_;
  Axis axis_;
  SvgWriter svg_;
};

}  // namespace

std::string to_svg(const BarChart& chart) {
  for (const BarChart::Group& group : chart.groups) {
    require(group.values.size() == chart.series.size(), "bar chart", "a value per series",
            "another number of values");
  }
  return Drawing(chart).svg();
}

}  // namespace rtlynx
