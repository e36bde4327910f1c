// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace rtlynx {

/// `text` with &, <, > and " written as entities: safe between tags and in quoted attributes of XML
/// and HTML.
std::string escape_markup(std::string_view text);

/// The colour of series `index` in every chart; there are `kSeriesColours` of them.
inline constexpr std::size_t kSeriesColours = 6;
std::string_view series_colour(std::size_t index);

/// A picture that is written element by element: a white sheet at first. Texts are escaped;
/// `style` is one or more whole attributes.
class SvgWriter {
 public:
  SvgWriter(double width, double height);

  void text(double x, double y, std::string_view anchor, std::string_view text,
            std::string_view style = {});
  /// `tip` is what a browser shows under the pointer.
  void rect(double x, double y, double width, double height, std::string_view fill,
            std::string_view tip = {});
  void line(double x1, double y1, double x2, double y2, std::string_view style);
  void polyline(std::span<const std::pair<double, double>> points, std::string_view colour);

  /// Title, subtitle and the legend of `series` in the upper 80 pixels, from x = `left` on.
  void heading(double left, std::string_view title, std::string_view subtitle,
               std::span<const std::string> series);

  /// The whole picture; nothing may be added after it.
  std::string finish();

 private:
  std::string text_;
};

/// A linear scale from 0 to at least `highest` in at most eight round steps.
struct Axis {
  double top = 1;
  double step = 1;
};
Axis round_axis(double highest);

}  // namespace rtlynx
