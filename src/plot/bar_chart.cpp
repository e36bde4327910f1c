// SPDX-License-Identifier: Apache-2.0
#include "plot/bar_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr const char* kColours[] = {"#1f5f8b", "#7fb2d6", "#b8571b", "#eaa873"};
constexpr double kLeft = 112, kTop = 96, kRight = 24, kBottom = 150;
constexpr double kAxisTitle = 60;  // x of the title of the vertical axis
constexpr double kPlotHeight = 320;
constexpr double kBarWidth = 14, kGroupGap = 18;
constexpr double kNarrowest = 560;  // room for the legend

std::string escape(std::string_view text) {
  std::string escaped;
  for (const char letter : text) {
    switch (letter) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += letter;
    }
  }
  return escaped;
}

class Drawing {
 public:
  explicit Drawing(const BarChart& chart)
      : chart_(chart),
        group_width_(kBarWidth * static_cast<double>(chart.series.size()) + kGroupGap),
        plot_width_(std::max(kNarrowest, group_width_ * static_cast<double>(chart.groups.size()))),
        top_value_(highest_value(chart)) {}

  std::string svg() {
    const double width = kLeft + plot_width_ + kRight, height = kTop + kPlotHeight + kBottom;
    text_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
        "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"sans-serif\" font-size=\"12\">\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        width, height);
    draw_titles();
    draw_grid();
    for (std::size_t i = 0; i < chart_.groups.size(); ++i) draw_group(i);
    draw_line_at_one();
    return text_ + "</svg>\n";
  }

 private:
  // The next half above the highest bar, and at least 1.5 so that the line at 1 is inside.
  static double highest_value(const BarChart& chart) {
    double highest = 1.25;
    for (const BarChart::Group& group : chart.groups) {
      for (const auto& value : group.values) highest = std::max(highest, value.value_or(0));
    }
    return std::ceil(highest * 2) / 2;
  }

  double y_of(double value) const { return kTop + kPlotHeight * (1 - value / top_value_); }

  void label(double x, double y, std::string_view anchor, std::string_view text,
             std::string_view more = {}) {
    text_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y,
                         anchor, more, escape(text));
  }

  void line(double y, std::string_view style) {
    text_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n",
                         kLeft, y, kLeft + plot_width_, y, style);
  }

  void draw_titles() {
    label(kLeft, 28, "start", chart_.title, " font-size=\"17\" font-weight=\"bold\"");
    label(kLeft, 48, "start", chart_.subtitle, " fill=\"#555\"");
    double x = kLeft;
    for (std::size_t i = 0; i < chart_.series.size(); ++i) {
      text_ += fmt::format("<rect x=\"{:.1f}\" y=\"62\" width=\"12\" height=\"12\" fill=\"{}\"/>\n",
                           x, kColours[i]);
      label(x + 17, 72, "start", chart_.series[i]);
      x += 40 + 7 * static_cast<double>(chart_.series[i].size());
    }
    label(kAxisTitle, kTop + kPlotHeight / 2, "middle", chart_.axis,
          fmt::format(" transform=\"rotate(-90 {} {:.1f})\"", kAxisTitle, kTop + kPlotHeight / 2));
  }

  void draw_grid() {
    const double step = top_value_ > 4 ? 1 : top_value_ > 2 ? 0.5 : 0.25;
    for (int i = 0; i * step <= top_value_; ++i) {
      const double value = i * step;
      line(y_of(value), i == 0 ? "stroke=\"#333\"" : "stroke=\"#ddd\"");
      label(kLeft - 8, y_of(value) + 4, "end", fmt::format("{:.2f}", value));
    }
  }

  void draw_group(std::size_t index) {
    const BarChart::Group& group = chart_.groups[index];
    const double left = kLeft + group_width_ * static_cast<double>(index) + kGroupGap / 2;
    for (std::size_t i = 0; i < group.values.size(); ++i) {
      const double x = left + kBarWidth * static_cast<double>(i);
      if (!group.values[i]) continue;
      const double y = y_of(*group.values[i]);
      text_ += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\">"
          "<title>{}: {} {:.3f}</title></rect>\n",
          x, y, kBarWidth - 1, kTop + kPlotHeight - y, kColours[i], escape(group.label),
          escape(chart_.series[i]), *group.values[i]);
    }
    const double x = left + (group_width_ - kGroupGap) / 2, y = kTop + kPlotHeight + 16;
    label(x, y, "end", group.label, fmt::format(" transform=\"rotate(-40 {:.1f} {:.1f})\"", x, y));
  }

  void draw_line_at_one() { line(y_of(1), "stroke=\"#111\" stroke-dasharray=\"5 4\""); }

  const BarChart& chart_;
  double group_width_;
  double plot_width_;
  double top_value_;
  std::string text_;
};

}  // namespace

std::string to_svg(const BarChart& chart) {
  require(chart.series.size() <= std::size(kColours), "bar chart", "at most four series", "more");
  for (const BarChart::Group& group : chart.groups) {
    require(group.values.size() == chart.series.size(), "bar chart", "a value per series",
            "another number of values");
  }
  return Drawing(chart).svg();
}

}  // namespace rtlynx
