// SPDX-License-Identifier: Apache-2.0
#include "benchmark/options.h"

#include <algorithm>

#include "base/error.h"
#include "benchmark/config_name.h"
#include "options/number.h"

namespace rtlynx::benchmark {
namespace {

constexpr int kMaxRepeats = 10000;

// CLI11 wants an empty string for a value that is accepted, and the complaint otherwise.
template <typename Parse>
CLI::Validator accepted_by(Parse parse, const std::string& name) {
  return CLI::Validator(
      [parse](std::string& text) {
        try {
          parse(text);
          return std::string();
        } catch (const UsageError& error) {
          return std::string(error.what());
        }
      },
      name);
}

}  // namespace

bool Options::wants(const std::string& section) const {
  return std::find(what.begin(), what.end(), section) != what.end();
}

std::vector<Shape> Options::shapes() const {
  std::vector<Shape> chosen;
  const auto add = [&](Shape shape) {
    if (std::find(chosen.begin(), chosen.end(), shape) == chosen.end()) {
      chosen.push_back(std::move(shape));
    }
  };
  const bool none = sets.empty() && own_shapes.empty();
  for (const std::string& set : none ? std::vector<std::string>{"bench"} : sets) {
    for (Shape& shape : shapes_of(set)) add(std::move(shape));
  }
  for (const std::string& text : own_shapes) add(parse_shape(text));
  return chosen;
}

void add_options(CLI::App& command, Options& options) {
  command.add_option("--shapes", options.sets, "Sets of shapes, separated by commas [bench]")
      ->delimiter(',')
      ->check(CLI::IsMember(shape_set_names()));
  command
      .add_option("--shape", options.own_shapes,
                  "A shape M,N,K, or M,N+N,K for weights that read one input; may be repeated")
      ->take_all()
      ->check(accepted_by(parse_shape, "M,N,K"));
  command.add_option("--dtype", options.dtype, "Element type")
      ->check(CLI::IsMember({"bf16", "f16"}))
      ->capture_default_str();
  command.add_option("--repeats", options.repeats, "Calls per figure [GPU: 21, CPU: 11, step: 10]")
      ->transform(options::whole_number(1, kMaxRepeats));
  command
      .add_option("--sustained-ms", options.sustained_ms,
                  "Time of each of the three rounds of calls back to back")
      ->transform(options::number(1, 10000))
      ->capture_default_str();
  command.add_option("--config", options.config, "Force a GEMM configuration, as in 128x256c2g8s")
      ->check(accepted_by(parse_config, "TILE"));
  command.add_flag("--sweep", options.sweep, "Time every GEMM configuration of sm_90a as well");
  command
      .add_option(
          "--what", options.what,
          "Sections, separated by commas; those of e4m3 and of sparse weights are for asking")
      ->delimiter(',')
      ->check(CLI::IsMember({"gemm", "pack", "linear", "fused", "e4m3", "weight", "e4m3-weight"}))
      ->capture_default_str();
  command.add_option("--json", options.json, "Write the figures to this file");
  command.add_option("--plot", options.plot, "Draw the speed-ups into this SVG file");
  command
      .add_option("--library-dir", options.library_folders,
                  "Folder of cuBLASLt or cuSPARSELt; may be repeated [$RTLYNX_LIBRARY_PATH]")
      ->check(CLI::ExistingDirectory);
  command.add_option("--seed", options.seed, "Seed of the random data")
      ->transform(options::seed())
      ->capture_default_str();
}

const std::vector<std::string>& gpu_only_options() {
  static const std::vector<std::string> names = {"--shapes", "--shape", "--dtype", "--sustained-ms",
                                                 "--config", "--sweep", "--what",  "--library-dir"};
  return names;
}

}  // namespace rtlynx::benchmark
