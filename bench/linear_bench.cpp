// SPDX-License-Identifier: Apache-2.0
// Times the operators against a dense Linear on the CPU. Each result is verified before it is
// timed; dense and sparse calls alternate; figures are medians, and ratios come from one run.
#include <fmt/format.h>
#include <torch/torch.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/file.h"
#include "ops/ops.h"

namespace rtlynx {
namespace {

struct Shape {
  const char* name;
  std::int64_t tokens, outputs, channels;  // M, N, K
};

constexpr Shape kShapes[] = {
    {"lynx-mini qkv", 560, 256, 256},
    {"lynx-mini mlp up", 560, 1024, 256},
    {"lynx-mini mlp down", 560, 256, 1024},
    {"FLUX.1 qkv, 512 text tokens", 512, 3072, 3072},
    {"FLUX.1 mlp up, 512 text tokens", 512, 12288, 3072},
};

template <typename Function>
double seconds(const Function& function) {
  const auto start = std::chrono::steady_clock::now();
  function();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Against the same product in fp64, with a selection by sorting (random inputs have no ties); the
// allowance is twice the error of a dense fp32 Linear.
void verify(const torch::Tensor& x, const ops::Linear24Weights& weights, const char* name) {
  const torch::Tensor groups = x.to(torch::kFloat64).unflatten(-1, {-1, 4});
  const torch::Tensor top = std::get<1>(groups.abs().topk(2, /*dim=*/-1));
  const torch::Tensor kept = (groups * torch::zeros_like(groups).scatter(-1, top, 1.0)).flatten(-2);
  const torch::Tensor scaled =
      kept * (x.to(torch::kFloat64).norm(2, {-1}, true) / kept.norm(2, {-1}, true));
  const torch::Tensor exact =
      torch::linear(scaled, weights.weight.to(torch::kFloat64), weights.bias->to(torch::kFloat64));
  const auto error = [&](const torch::Tensor& y) {
    return ((y.to(torch::kFloat64) - exact).norm() / exact.norm()).item<double>();
  };
  const double dense =
      error(torch::linear(scaled.to(torch::kFloat32), weights.weight, *weights.bias));
  const double sparse = error(ops::linear24(x, weights));
  if (!(sparse <= 2 * dense)) {
    fail(name, fmt::format("a relative error of at most {:.2e}", 2 * dense),
         fmt::format("{:.2e}", sparse));
  }
}

nlohmann::ordered_json time_shape(const Shape& shape, int repeats) {
  const torch::Tensor x = torch::randn({shape.tokens, shape.channels});
  const ops::Linear24Weights weights{.weight = torch::randn({shape.outputs, shape.channels}),
                                     .bias = torch::randn({shape.outputs}),
                                     .lora_down = {},
                                     .lora_up = {}};
  verify(x, weights, shape.name);
  std::vector<double> dense, select, sparse;
  for (int i = 0; i < repeats; ++i) {
    dense.push_back(seconds([&] { torch::linear(x, weights.weight, *weights.bias); }));
    select.push_back(seconds([&] { ops::sparsify24(x); }));
    sparse.push_back(seconds([&] { ops::linear24(x, weights); }));
  }
  return {{"name", shape.name},
          {"m", shape.tokens},
          {"n", shape.outputs},
          {"k", shape.channels},
          {"dense_ms", 1e3 * median(dense)},
          {"sparsify24_ms", 1e3 * median(select)},
          {"linear24_ms", 1e3 * median(sparse)},
          {"linear24_over_dense_time", median(sparse) / median(dense)}};
}

}  // namespace
}  // namespace rtlynx

int main(int argc, char** argv) {
  CLI::App app{"Times rtlynx's CPU operators against a dense Linear", "rtlynx_bench"};
  std::string json_path;
  int repeats = 11;
  app.add_option("--json", json_path, "Write the figures to this file");
  app.add_option("--repeats", repeats, "Calls per figure")->check(CLI::Range(1, 10000));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    const torch::InferenceMode inference;
    torch::manual_seed(0);
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    fmt::print("{:32} {:>6} {:>6} {:>6} {:>10} {:>10} {:>10}  {}\n", "shape", "M", "N", "K",
               "dense ms", "select ms", "sparse ms", "sparse / dense time");
    for (const auto& shape : rtlynx::kShapes) {
      rows.push_back(rtlynx::time_shape(shape, repeats));
      const auto& row = rows.back();
      fmt::print("{:32} {:6} {:6} {:6} {:10.3f} {:10.3f} {:10.3f}  {:.2f}\n", shape.name,
                 shape.tokens, shape.outputs, shape.channels, row["dense_ms"].get<double>(),
                 row["sparsify24_ms"].get<double>(), row["linear24_ms"].get<double>(),
                 row["linear24_over_dense_time"].get<double>());
    }
    fmt::print("A CPU has no sparse units: the operators are there for their results.\n");
    if (!json_path.empty()) {
      const nlohmann::ordered_json report = {
          {"device", "cpu"}, {"threads", torch::get_num_threads()}, {"shapes", rows}};
      rtlynx::write_file_atomically(json_path, report.dump(2) + "\n");
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "rtlynx_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
