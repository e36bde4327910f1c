// SPDX-License-Identifier: Apache-2.0
#include "plot/svg.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr std::string_view kColours[kSeriesColours] = {"#1f5f8b", "#7fb2d6", "#b8571b",
                                                       "#eaa873", "#4d7c3a", "#8a5aa8"};

}  // namespace

std::string escape_markup(std::string_view text) {
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

std::string_view series_colour(std::size_t index) {
  require(index < kSeriesColours, "chart", "at most six series", "more");
  return kColours[index];
}

SvgWriter::SvgWriter(double width, double height)
    : text_(fmt::format(
          "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
          "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"sans-serif\" font-size=\"12\">\n"
          "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
          width, height)) {}

void SvgWriter::text(double x, double y, std::string_view anchor, std::string_view text,
                     std::string_view style) {
  text_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}{}>{}</text>\n", x, y,
                       anchor, style.empty() ? "" : " ", style, escape_markup(text));
}

void SvgWriter::rect(double x, double y, double width, double height, std::string_view fill,
                     std::string_view tip) {
  text_ +=
      fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"",
                  x, y, width, height, fill);
  text_ += tip.empty() ? "/>\n" : fmt::format("><title>{}</title></rect>\n", escape_markup(tip));
}

void SvgWriter::line(double x1, double y1, double x2, double y2, std::string_view style) {
  text_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1,
                       y1, x2, y2, style);
}

void SvgWriter::polyline(std::span<const std::pair<double, double>> points,
                         std::string_view colour) {
  text_ +=
      fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"", colour);
  for (const auto& [x, y] : points) text_ += fmt::format("{:.1f},{:.1f} ", x, y);
  text_ += "\"/>\n";
}

void SvgWriter::heading(double left, std::string_view title, std::string_view subtitle,
                        std::span<const std::string> series) {
  text(left, 28, "start", title, "font-size=\"17\" font-weight=\"bold\"");
  text(left, 48, "start", subtitle, "fill=\"#555\"");
  double x = left;
  for (std::size_t i = 0; i < series.size(); ++i) {
    rect(x, 62, 12, 12, series_colour(i));
    text(x + 17, 72, "start", series[i]);
    x += 40 + 7 * static_cast<double>(series[i].size());
  }
}

std::string SvgWriter::finish() { return std::move(text_) + "</svg>\n"; }

Axis round_axis(double highest) {
  constexpr double kSteps = 8;
  if (!(highest > 0) || !std::isfinite(highest)) return {};
  const double decade = std::pow(10.0, std::floor(std::log10(highest / kSteps)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0, 10.0}) {
    const double step = factor * decade;
    // A sum such as 0.1 + 0.2 may lie just above a step.
    const double steps = std::ceil(highest / step - 1e-9);
    if (steps <= kSteps) return {.top = steps * step, .step = step};
  }
  return {.top = highest, .step = highest};
}

}  // namespace rtlynx
