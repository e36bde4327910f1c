// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/libtorch.h"
#include "benchmark/command.h"
#include "benchmark/run.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "io/file.h"
#include "io/json.h"
#include "io/terminal.h"
#include "options/number.h"
#include "plot/bar_chart.h"
#include "step_benchmark/command.h"
#include "step_benchmark/family.h"
#include "study/cpu_timing.h"

namespace rtlynx::cli {
namespace {

constexpr int kCpuRepeats = 11;

struct BenchArguments {
  benchmark::Options options;
  std::string device = "auto";
  step_benchmark::StepOptions step{.family = ""};  // empty: the kernels, not a step
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

/// What means nothing to a step.
void refuse_kernel_options(const CLI::App& command) {
  std::vector<std::string> names = benchmark::gpu_only_options();
  names.emplace_back("--plot");
  for (const std::string& option : names) {
    if (command.count(option) > 0) {
      throw UsageError("--step: required without " + option + ", got both");
    }
  }
}

void bench_step(const CLI::App& command, const BenchArguments& arguments) {
  refuse_kernel_options(command);
  if (arguments.device == "cpu") {
    throw UsageError("--step: required --device cuda or auto, got cpu");
  }
  step_benchmark::StepOptions step = arguments.step;
  step.repeats = arguments.options.repeats.value_or(step.repeats);
  step.seed = arguments.options.seed;
  step.json = arguments.options.json;
  if (step.side.value_or(0) % 16 != 0) {
    throw UsageError(fmt::format("--side: required a multiple of 16, got {}", *step.side));
  }
  step_benchmark::run_command(step);
}

void bench(const CLI::App& command, const BenchArguments& arguments) {
  const benchmark::Options& options = arguments.options;
  FilePlan files;
  files.write("--json", options.json);
  files.write("--plot", options.plot);
  files.check();
  if (!arguments.step.family.empty()) return bench_step(command, arguments);
  const std::string no_gpu = arguments.device == "cpu" ? "--device cpu" : benchmark::why_no_gpu();
  if (arguments.device == "cuda" || no_gpu.empty()) {
    benchmark::run_command(options);
    return;
  }
  refuse_gpu_options(command, no_gpu);
  bench_on_cpu(options);
}

void add_step_options(CLI::App& command, BenchArguments& arguments) {
  std::vector<std::string> variants;
  for (const auto& variant : step_benchmark::step_variants()) variants.push_back(variant.name);
  std::vector<std::string> families;
  for (const auto& family : step_benchmark::step_families()) families.push_back(family.name);
  step_benchmark::StepOptions& step = arguments.step;
  CLI::Option* family = command
                            .add_option("--step", step.family,
                                        "Time a full-size denoising step of this model instead of "
                                        "the kernels: random weights, a GPU")
                            ->check(CLI::IsMember(families));
  command.add_option("--variant", step.variants, "Of the step; may be repeated [all]")
      ->take_all()
      ->check(CLI::IsMember(variants))
      ->needs(family);
  command
      .add_option(
          "--side", step.side,
          "Pixels along a side of the step's pictures, a multiple of 16 [default: the model's]")
      ->transform(options::whole_number(16, 4096))
      ->needs(family);
  command.add_option("--batch", step.batch, "Of the step: pictures at once")
      ->transform(options::whole_number(1, 64))
      ->needs(family)
      ->capture_default_str();
  command.add_option("--rounds", step.rounds, "Of the step: each times every variant in turn")
      ->transform(options::whole_number(1, 1000000))
      ->needs(family)
      ->capture_default_str();
  command
      .add_flag("--turns", step.turns,
                "Wait for a line on stdin before each round and answer it with a line of JSON, so "
                "that another program can run in between")
      ->needs(family);
  command
      .add_flag("!--no-check", step.check,
                "Do not compare the step with the plain path in fp32 before it is timed")
      ->needs(family);
}

}  // namespace

void add_bench(CLI::App& app) {
  auto arguments = std::make_shared<BenchArguments>();
  CLI::App* command = app.add_subcommand(
      "bench",
      "Time the sparse kernels against dense and sparse libraries, a model's step, or the CPU");
  command->add_option("--device", arguments->device, "Where; auto is the GPU if one can be used")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  benchmark::add_options(*command, arguments->options);
  add_step_options(*command, *arguments);
  command->footer(
      "Example:\n"
      "  rtlynx bench --json bench.json --plot bench.svg\n"
      "  rtlynx bench --step flux --json step.json\n"
      "Every result is verified before it is timed. Burst is one call with a cold L2, sustained\n"
      "are calls back to back, where power decides. A library that is not found is said to be.");
  command->callback([command, arguments] { bench(*command, *arguments); });
}

}  // namespace rtlynx::cli
