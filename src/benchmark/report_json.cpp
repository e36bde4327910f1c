// SPDX-License-Identifier: Apache-2.0
#include "benchmark/config_name.h"
#include "benchmark/report.h"
#include "benchmark/summary.h"
#include "kernels/gemm/select.h"
#include "rtlynx/version.h"

namespace rtlynx::benchmark {
namespace {

using nlohmann::ordered_json;

ordered_json or_null(const std::optional<double>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json or_null(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

ordered_json describe(const Timing& timing) {
  return {{"burst_us", timing.burst.median},
          {"burst_p10_us", timing.burst.p10},
          {"burst_p90_us", timing.burst.p90},
          {"sustained_us", timing.sustained.median},
          {"sustained_p10_us", timing.sustained.p10},
          {"sustained_p90_us", timing.sustained.p90},
          {"sustained_sm_mhz", or_null(timing.sm_mhz)},
          {"sustained_watts", or_null(timing.watts)}};
}

void add_figure(ordered_json& object, const Figure& figure) {
  object[figure.name] = figure.timing ? describe(*figure.timing) : ordered_json(nullptr);
  if (!figure.timing) object[figure.name + "_missing"] = figure.missing;
}

ordered_json describe(const Section& section, const ShapeResult& result) {
  ordered_json object = ordered_json::object();
  for (const Figure& figure : section.figures) add_figure(object, figure);
  for (const Ratio& ratio : ratios()) {
    if (section.name == ratio.section) object[ratio.name] = or_null(ratio_of(result, ratio));
  }
  if (section.name == "linear") object["overhead_share"] = or_null(overhead_share(result));
  if (section.name == "fused") {
    object["producer_kind"] = name_of(result.shape.producer);
    object["fused_overhead_share"] = or_null(fused_overhead_share(result));
  }
  return object;
}

ordered_json pack_bandwidth(const ShapeResult& result, double copy_bytes_per_second) {
  if (result.find("pack", "rtlynx") == nullptr) return nullptr;
  const auto share = [&](Mode mode) {
    return or_null(pack_share_of_copy(result, copy_bytes_per_second, mode));
  };
  return {{"bytes", pack_bytes(result.shape)},
          {"share_of_copy_burst", share(Mode::burst)},
          {"share_of_copy_sustained", share(Mode::sustained)}};
}

ordered_json describe(const gpu::Gemm24Choice& choice) {
  return {{"path", gpu::name_of(choice.config.path)},
          {"config", name_of(choice.config)},
          {"reason", choice.reason}};
}

ordered_json describe_sweep(const std::vector<SweepEntry>& sweep) {
  ordered_json entries = ordered_json::array();
  for (const SweepEntry& entry : sweep) {
    ordered_json row = {{"config", name_of(entry.config)}};
    add_figure(row, {"time", entry.figure.timing, entry.figure.missing});
    entries.push_back(std::move(row));
  }
  return entries;
}

ordered_json describe(const ShapeResult& result, double copy_bytes_per_second) {
  ordered_json row = {{"name", result.shape.name},
                      {"model", or_null(result.shape.model)},
                      {"m", result.shape.tokens},
                      {"n", result.shape.all_outputs()},
                      {"weights", result.shape.outputs},
                      {"k", result.shape.channels},
                      {"count", result.shape.count},
                      {"in_mean", result.shape.in_mean},
                      {"in_pass", result.shape.in_pass},
                      {"path", gpu::name_of(result.gemm.config.path)},
                      {"gemm_choice", describe(result.gemm)},
                      {"linear_choice", describe(result.linear)}};
  ordered_json& checks = row["checks"] = ordered_json::array();
  for (const Check& check : result.checks) {
    checks.push_back(
        {{"contender", check.contender}, {"error", check.error}, {"allowed", check.allowed}});
  }
  for (const Section& section : result.sections) {
    row[section.name] = describe(section, result);
    if (section.name == "pack") {
      row["pack"]["bandwidth"] = pack_bandwidth(result, copy_bytes_per_second);
    }
  }
  if (!result.sweep.empty()) row["sweep"] = describe_sweep(result.sweep);
  return row;
}

ordered_json describe(const GpuState& state) {
  return {{"sm_mhz", or_null(state.sm_mhz)},
          {"memory_mhz", or_null(state.memory_mhz)},
          {"watts", or_null(state.watts)},
          {"watts_limit", or_null(state.watts_limit)},
          {"celsius", or_null(state.celsius)}};
}

ordered_json describe_rivals(const std::vector<Rival>& rivals) {
  ordered_json object = ordered_json::object();
  for (const Rival& rival : rivals) {
    if (rival.version.empty()) {
      object[rival.name] = nullptr;
      object[rival.name + "_missing"] = rival.missing;
    } else {
      object[rival.name] = {{"version", rival.version}, {"path", rival.path}};
    }
  }
  return object;
}

}  // namespace

ordered_json to_json(const RunResult& run) {
  ordered_json report = {{"device", "cuda"},
                         {"rtlynx", version()},
                         {"gpu", run.gpu},
                         {"driver", or_null(run.driver)},
                         {"monitor_missing", or_null(run.monitor_missing)},
                         {"libraries", describe_rivals(run.rivals)},
                         {"dtype", run.dtype},
                         {"repeats", run.repeats},
                         {"sustained_ms", run.sustained_ms},
                         {"seed", run.seed},
                         {"copy_bytes_per_second", run.copy_bytes_per_second},
                         {"before", describe(run.before)},
                         {"after", describe(run.after)}};
  ordered_json& rows = report["shapes"] = ordered_json::array();
  for (const ShapeResult& result : run.shapes) {
    rows.push_back(describe(result, run.copy_bytes_per_second));
  }
  report["failures"] = run.failures;
  report["summary"] = summarize(run);
  return report;
}

}  // namespace rtlynx::benchmark
