// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <torch/torch.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "benchmark/command.h"
#include "benchmark/run.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "io/file.h"
#include "io/json.h"
#include "io/terminal.h"
#include "plot/bar_chart.h"
#include "study/cpu_timing.h"

namespace rtlynx::cli {
namespace {

constexpr int kCpuRepeats = 11;

struct BenchArguments {
  benchmark::Options options;
  std::string device = "auto";
};

void print_row(const CpuTiming& timing) {
  terminal::print("{:32} {:6} {:6} {:6} {:10.3f} {:10.3f} {:10.3f}  {:.2f}\n", timing.name,
                  timing.tokens, timing.outputs, timing.channels, timing.dense_ms,
                  timing.sparsify24_ms, timing.linear24_ms, timing.linear24_ms / timing.dense_ms);
}

nlohmann::ordered_json describe(const std::vector<CpuTiming>& timings) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const CpuTiming& timing : timings) {
    rows.push_back({{"name", timing.name},
                    {"m", timing.tokens},
                    {"n", timing.outputs},
                    {"k", timing.channels},
                    {"dense_ms", timing.dense_ms},
                    {"sparsify24_ms", timing.sparsify24_ms},
                    {"linear24_ms", timing.linear24_ms},
                    {"linear24_over_dense_time", timing.linear24_ms / timing.dense_ms}});
  }
  return {{"device", "cpu"}, {"threads", torch::get_num_threads()}, {"shapes", rows}};
}

BarChart chart_of(const std::vector<CpuTiming>& timings) {
  BarChart chart{
      .title = "rtlynx over a dense Linear on the CPU",
      .subtitle = "fp32; a CPU has no sparse units: the operators are there for their results",
      .axis = "speed-up",
      .series = {"linear24"}};
  for (const CpuTiming& timing : timings) {
    chart.groups.push_back({timing.name, {timing.dense_ms / timing.linear24_ms}});
  }
  return chart;
}

void refuse_gpu_options(const CLI::App& command, const std::string& why_cpu) {
  for (const std::string& option : benchmark::gpu_only_options()) {
    if (command.count(option) > 0) {
      fail("bench " + option, "a GPU and a build with GPU kernels", why_cpu);
    }
  }
}

void bench_on_cpu(const benchmark::Options& options) {
  terminal::print("{:32} {:>6} {:>6} {:>6} {:>10} {:>10} {:>10}  {}\n", "shape", "M", "N", "K",
                  "dense ms", "select ms", "sparse ms", "sparse / dense time");
  const std::vector<CpuTiming> timings =
      time_cpu_linears(options.repeats.value_or(kCpuRepeats), options.seed, print_row);
  terminal::print("A CPU has no sparse units: the operators are there for their results.\n");
  if (!options.json.empty()) {
    write_file_atomically(options.json, report_text(describe(timings), "bench"));
  }
  if (!options.plot.empty()) {
    write_file_atomically(options.plot, to_svg(chart_of(timings)));
  }
}

void bench(const CLI::App& command, const BenchArguments& arguments) {
  const benchmark::Options& options = arguments.options;
  FilePlan files;
  files.write("--json", options.json);
  files.write("--plot", options.plot);
  files.check();
  const std::string no_gpu = arguments.device == "cpu" ? "--device cpu" : benchmark::why_no_gpu();
  if (arguments.device == "cuda" || no_gpu.empty()) {
    benchmark::run_command(options);
    return;
  }
  refuse_gpu_options(command, no_gpu);
  bench_on_cpu(options);
}

}  // namespace

void add_bench(CLI::App& app) {
  auto arguments = std::make_shared<BenchArguments>();
  CLI::App* command = app.add_subcommand(
      "bench", "Time the sparse kernels against dense and sparse libraries, or on the CPU");
  command->add_option("--device", arguments->device, "Where; auto is the GPU if one can be used")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  benchmark::add_options(*command, arguments->options);
  command->footer(
      "Example:\n"
      "  rtlynx bench --json bench.json --plot bench.svg\n"
      "Every result is verified before it is timed. Burst is one call with a cold L2, sustained\n"
      "are calls back to back, where power decides. A library that is not found is said to be.");
  command->callback([command, arguments] { bench(*command, *arguments); });
}

}  // namespace rtlynx::cli
