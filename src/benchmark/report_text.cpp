// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "benchmark/config_name.h"
#include "benchmark/report.h"
#include "benchmark/summary.h"

namespace rtlynx::benchmark {
namespace {

struct Column {
  std::string title;
  std::function<std::string(const ShapeResult&)> cell;
};

struct Table {
  std::string title;
  std::string section;
  std::vector<Column> columns;
};

Column time_column(std::string title, std::string section, std::string figure, Mode mode) {
  return {std::move(title), [=](const ShapeResult& result) {
            const Timing* const timing = result.find(section, figure);
            return timing == nullptr ? "-" : fmt::format("{:.1f}", microseconds(*timing, mode));
          }};
}

Column ratio_column(std::string title, std::string_view name) {
  const auto known = std::find_if(ratios().begin(), ratios().end(),
                                  [&](const Ratio& ratio) { return ratio.name == name; });
  return {std::move(title), [ratio = *known](const ShapeResult& result) {
            const std::optional<double> value = ratio_of(result, ratio);
            return value ? fmt::format("{:.2f}x", *value) : std::string("-");
          }};
}

Column share_column(std::string title,
                    std::function<std::optional<double>(const ShapeResult&)> share) {
  return {std::move(title), [share = std::move(share)](const ShapeResult& result) {
            const std::optional<double> value = share(result);
            return value ? fmt::format("{:.1f}%", 100 * *value) : std::string("-");
          }};
}

Table gemm_table() {
  return {"GEMM, rank 0, packed input (us)",
          "gemm",
          {{"config", [](const ShapeResult& result) { return name_of(result.gemm.config); }},
           time_column("burst", "gemm", "rtlynx", Mode::burst),
           ratio_column("/cuBLASLt", "gemm_over_cublaslt_burst"),
           ratio_column("/cuSPARSELt", "gemm_over_cusparselt_burst"),
           time_column("sustained", "gemm", "rtlynx", Mode::sustained),
           ratio_column("/cuBLASLt", "gemm_over_cublaslt_sustained"),
           ratio_column("/cuSPARSELt", "gemm_over_cusparselt_sustained")}};
}

Table pack_table(double copy_bytes_per_second) {
  const auto of_copy = [=](std::string title, Mode mode) {
    return share_column(std::move(title), [=](const ShapeResult& result) {
      return pack_share_of_copy(result, copy_bytes_per_second, mode);
    });
  };
  return {"Pack (us, burst) and the share of the copy rate that it reaches",
          "pack",
          {time_column("pack", "pack", "rtlynx", Mode::burst),
           time_column("rank 64", "pack", "rank64", Mode::burst),
           time_column("transform", "pack", "transform64", Mode::burst),
           time_column("copy", "pack", "copy", Mode::burst), of_copy("burst", Mode::burst),
           of_copy("sustained", Mode::sustained),
           ratio_column("/compress", "pack_over_cusparselt_compress")}};
}

Table linear_table() {
  return {"Linear: pack and GEMM with rank 64 of each weight, scale and bias (us)",
          "linear",
          {{"config", [](const ShapeResult& result) { return name_of(result.linear.config); }},
           time_column("burst", "linear", "rtlynx", Mode::burst),
           ratio_column("/dense", "linear_over_dense_burst"),
           time_column("sustained", "linear", "rtlynx", Mode::sustained),
           ratio_column("/dense", "linear_over_dense_sustained"),
           share_column("overhead", overhead_share)}};
}

Table fused_table() {
  return {"Linear with the producer of its input in the pack (us)",
          "fused",
          {{"producer",
            [](const ShapeResult& result) { return std::string(name_of(result.shape.producer)); }},
           time_column("producer", "fused", "producer", Mode::burst),
           time_column("in pack", "fused", "pack", Mode::burst),
           time_column("linear", "fused", "rtlynx", Mode::burst),
           ratio_column("/dense", "fused_over_dense_burst"),
           ratio_column("sustained", "fused_over_dense_sustained"),
           share_column("overhead", fused_overhead_share)}};
}

Table e4m3_table() {
  return {"e4m3: product of packed input, rank 0; linear with pack, rank 64 and bias (us)",
          "e4m3",
          {time_column("burst", "e4m3", "rtlynx", Mode::burst),
           ratio_column("/cuBLASLt", "fp8_gemm_over_cublaslt_burst"),
           ratio_column("/bf16", "fp8_gemm_over_bf16_burst"),
           time_column("sustained", "e4m3", "rtlynx", Mode::sustained),
           ratio_column("/cuBLASLt", "fp8_gemm_over_cublaslt_sustained"),
           time_column("pack", "e4m3", "pack", Mode::burst),
           time_column("linear", "e4m3", "linear", Mode::burst),
           ratio_column("/dense fp8", "fp8_linear_over_dense_fp8_burst"),
           ratio_column("/dense bf16", "fp8_linear_over_dense_bf16_burst")}};
}

/// `prefix`: of the summary's names; `linear`: that of its linears.
Table weight_table(const std::string& section, const std::string& prefix,
                   const std::string& linear) {
  return {section + ": sparse weights, rank 0; linear with the product of its low rank (us)",
          section,
          {time_column("burst", section, "rtlynx", Mode::burst),
           ratio_column("/cuBLASLt", prefix + "_over_cublaslt_burst"),
           time_column("sustained", section, "rtlynx", Mode::sustained),
           ratio_column("/cuBLASLt", prefix + "_over_cublaslt_sustained"),
           time_column("linear", section, "linear", Mode::burst), ratio_column("/dense", linear)}};
}

bool has_section(const ShapeResult& result, const std::string& name) {
  return std::any_of(result.sections.begin(), result.sections.end(),
                     [&](const Section& section) { return section.name == name; });
}

std::string render(const Table& table, const RunResult& run) {
  std::string rows;
  for (const ShapeResult& result : run.shapes) {
    if (!has_section(result, table.section)) continue;
    rows +=
        fmt::format("{:35} {:>5} {:>5} {:>5} {:>2}", result.shape.name, result.shape.tokens,
                    result.shape.all_outputs(), result.shape.channels, result.shape.outputs.size());
    for (const Column& column : table.columns) rows += fmt::format(" {:>13}", column.cell(result));
    rows += "\n";
  }
  if (rows.empty()) return {};
  std::string head =
      fmt::format("{}\n{:35} {:>5} {:>5} {:>5} {:>2}", table.title, "shape", "M", "N", "K", "W");
  for (const Column& column : table.columns) head += fmt::format(" {:>13}", column.title);
  return head + "\n" + rows + "\n";
}

std::string render_sweep(const RunResult& run) {
  std::string text;
  for (const ShapeResult& result : run.shapes) {
    if (result.sweep.empty()) continue;
    text += fmt::format("Sweep of {} (us)\n{:16} {:>10} {:>10}\n", result.shape.name, "config",
                        "burst", "sustained");
    for (const SweepEntry& entry : result.sweep) {
      const std::string name = name_of(entry.config);
      text += entry.figure.timing ? fmt::format("{:16} {:10.1f} {:10.1f}\n", name,
                                                entry.figure.timing->burst.median,
                                                entry.figure.timing->sustained.median)
                                  : fmt::format("{:16} {}\n", name, entry.figure.missing);
    }
    text += "\n";
  }
  return text;
}

std::string render_libraries(const RunResult& run) {
  std::string text;
  for (const Rival& rival : run.rivals) {
    if (!rival.version.empty()) {
      text += fmt::format("{} {} ({})\n", rival.name, rival.version, rival.path);
    }
  }
  return text;
}

// Each reason once: it is the same for most shapes.
std::string render_missing(const RunResult& run) {
  std::set<std::string> lines;
  for (const Rival& rival : run.rivals) {
    if (rival.version.empty()) lines.insert(rival.name + ": " + rival.missing);
  }
  for (const ShapeResult& result : run.shapes) {
    for (const Section& section : result.sections) {
      for (const Figure& figure : section.figures) {
        if (!figure.timing) {
          lines.insert(fmt::format("{} in {}: {}", figure.name, section.name, figure.missing));
        }
      }
    }
  }
  if (!run.monitor_missing.empty()) lines.insert("clocks and power: " + run.monitor_missing);
  std::string text;
  for (const std::string& line : lines) text += "  " + line + "\n";
  return text.empty() ? text : "Not measured\n" + text + "\n";
}

std::string render_summary(const RunResult& run) {
  const nlohmann::ordered_json summary = summarize(run);
  std::string text =
      fmt::format("Geometric means over {} shapes\n", summary["shapes_in_mean"].get<std::size_t>());
  for (const auto& [name, value] : summary.items()) {
    if (value.is_number_float()) text += fmt::format("  {:32} {:.3f}\n", name, value.get<double>());
    if (value.is_null()) {
      text += fmt::format("  {:32} - ({})\n", name, summary["missing"][name].get<std::string>());
    }
  }
  for (const auto& [model, totals] : summary["totals"].items()) {
    text += fmt::format("Layers that the paper's recipe sparsifies, one pass of {} (ms)\n", model);
    for (const auto& [name, total] : totals.items()) {
      if (total.is_null()) continue;
      text +=
          fmt::format("  {:32} {:.3f}  {:.2f} against {:.2f}\n", name, total["ratio"].get<double>(),
                      total["rtlynx_ms"].get<double>(), total["rival_ms"].get<double>());
    }
  }
  return text;
}

}  // namespace

std::string to_text(const RunResult& run) {
  std::string text = fmt::format(
      "{}, {}, {}; medians, ratios are rival time / rtlynx time\n{}"
      "W weights on one input run as one product; a row of one weight is that weight alone.\n\n",
      run.gpu, run.dtype, run.date, render_libraries(run));
  for (const Table& table :
       {gemm_table(), pack_table(run.copy_bytes_per_second), linear_table(), fused_table(),
        e4m3_table(), weight_table("weight", "weight_gemm", "weight_linear_over_dense_burst"),
        weight_table("e4m3-weight", "fp8_weight_gemm", "fp8_weight_linear_over_dense_fp8_burst")}) {
    text += render(table, run);
  }
  return text + render_sweep(run) + render_missing(run) + render_summary(run);
}

}  // namespace rtlynx::benchmark
