// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "benchmark/report.h"
#include "benchmark/summary.h"
#include "plot/bar_chart.h"

namespace rtlynx::benchmark {
namespace {

struct Series {
  const char* title;
  Ratio ratio;
};

constexpr Series kSeries[] = {
    {"GEMM, burst", {"", "gemm", "rtlynx", "cublaslt", Mode::burst}},
    {"GEMM, sustained", {"", "gemm", "rtlynx", "cublaslt", Mode::sustained}},
    {"linear, burst", {"", "linear", "rtlynx", "cublaslt", Mode::burst}},
    {"linear, sustained", {"", "linear", "rtlynx", "cublaslt", Mode::sustained}},
};

/// Those of the means. A group's weights alone and short texts would make the picture three times
/// as wide; a run of nothing else shows them.
std::vector<const ShapeResult*> shapes_to_show(const RunResult& run) {
  const auto in_mean = [](const ShapeResult& result) { return result.shape.in_mean; };
  const bool all = std::none_of(run.shapes.begin(), run.shapes.end(), in_mean);
  std::vector<const ShapeResult*> shown;
  for (const ShapeResult& result : run.shapes) {
    if (all || in_mean(result)) shown.push_back(&result);
  }
  return shown;
}

}  // namespace

std::string to_svg(const RunResult& run) {
  BarChart chart{.title = "rtlynx over dense cuBLASLt",
                 .subtitle = fmt::format("{}, {}, {}; medians", run.gpu, run.dtype, run.date),
                 .axis = "speed-up"};
  for (const Series& series : kSeries) chart.series.emplace_back(series.title);
  for (const ShapeResult* result : shapes_to_show(run)) {
    BarChart::Group& group = chart.groups.emplace_back();
    group.label = result->shape.name;
    for (const Series& series : kSeries) group.values.push_back(ratio_of(*result, series.ratio));
  }
  return to_svg(chart);
}

}  // namespace rtlynx::benchmark
