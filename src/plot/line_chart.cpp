// SPDX-License-Identifier: Apache-2.0
#include "plot/line_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "plot/svg.h"

namespace rtlynx {
namespace {

constexpr double kLeft = 90, kTop = 96, kRight = 24, kBottom = 64;
constexpr double kWidth = 640, kHeight = 280;
constexpr double kAxisTitle = 36;  // x of the title of the vertical axis

class Drawing {
 public:
  explicit Drawing(const LineChart& chart)
      : chart_(chart), svg_(kLeft + kWidth + kRight, kTop + kHeight + kBottom) {
    double highest = 0;
    for (const LineChart::Series& series : chart.series) {
      for (const double value : series.values) highest = std::max(highest, value);
    }
    axis_ = round_axis(highest);
    if (chart.x.empty()) return;
    first_ = chart.x.front();
    range_ = chart.x.back() > first_ ? chart.x.back() - first_ : 1;
  }

  std::string svg() {
    std::vector<std::string> names;
    for (const LineChart::Series& series : chart_.series) names.push_back(series.label);
    svg_.heading(kLeft, chart_.title, chart_.subtitle, names);
    draw_grid();
    for (std::size_t i = 0; i < chart_.series.size(); ++i) draw_series(i);
    return svg_.finish();
  }

 private:
  double x_of(double value) const { return kLeft + kWidth * (value - first_) / range_; }
  double y_of(double value) const { return kTop + kHeight * (1 - value / axis_.top); }

  void draw_grid() {
    for (int i = 0; i * axis_.step <= axis_.top * (1 + 1e-9); ++i) {
      const double y = y_of(i * axis_.step);
      svg_.line(kLeft, y, kLeft + kWidth, y, i == 0 ? "stroke=\"#333\"" : "stroke=\"#ddd\"");
      svg_.text(kLeft - 8, y + 4, "end", fmt::format("{:.4g}", i * axis_.step));
    }
    const double step = round_axis(range_).step;
    for (double tick = std::ceil(first_ / step); tick * step <= first_ + range_; ++tick) {
      svg_.text(x_of(tick * step), kTop + kHeight + 18, "middle",
                fmt::format("{:.4g}", tick * step));
    }
    svg_.text(kLeft + kWidth / 2, kTop + kHeight + 42, "middle", chart_.x_axis);
    const double middle = kTop + kHeight / 2;
    svg_.text(kAxisTitle, middle, "middle", chart_.y_axis,
              fmt::format("transform=\"rotate(-90 {} {:.1f})\"", kAxisTitle, middle));
  }

  void draw_series(std::size_t index) {
    std::vector<std::pair<double, double>> points;
    for (std::size_t i = 0; i < chart_.x.size(); ++i) {
      points.emplace_back(x_of(chart_.x[i]), y_of(chart_.series[index].values[i]));
    }
    svg_.polyline(points, series_colour(index));
  }

  const LineChart& chart_;
  Axis axis_;
  double first_ = 0, range_ = 1;
  SvgWriter svg_;
};

}  // namespace

std::string to_svg(const LineChart& chart) {
  for (const LineChart::Series& series : chart.series) {
    require(series.values.size() == chart.x.size(), "line chart",
            std::to_string(chart.x.size()) + " values per series",
            std::to_string(series.values.size()));
  }
  return Drawing(chart).svg();
}

}  // namespace rtlynx
