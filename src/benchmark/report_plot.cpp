// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <iterator>

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

}  // namespace

std::string to_svg(const RunResult& run) {
  BarChart chart{.title = "rtlynx over dense cuBLASLt",
                 .subtitle = fmt::format("{}, {}, {}; medians", run.gpu, run.dtype, run.date),
                 .axis = "speed-up"};
  for (const Series& series : kSeries) chart.series.emplace_back(series.title);
  for (const ShapeResult& result : run.shapes) {
    BarChart::Group& group = chart.groups.emplace_back();
    group.label = result.shape.name;
    for (const Series& series : kSeries) group.values.push_back(ratio_of(result, series.ratio));
  }
  return to_svg(chart);
}

}  // namespace rtlynx::benchmark
