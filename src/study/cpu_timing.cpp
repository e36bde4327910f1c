// SPDX-License-Identifier: Apache-2.0
#include "study/cpu_timing.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/libtorch.h"
#include "ops/ops.h"

namespace rtlynx {
namespace {

struct CpuShape {
  const char* name;
  std::int64_t tokens, outputs, channels;  // M, N, K
};

constexpr CpuShape kShapes[] = {
    {"lynx-mini qkv", 560, 256, 256},
    {"lynx-mini mlp up", 560, 1024, 256},
    {"lynx-mini mlp down", 560, 256, 1024},
    {"FLUX.1 qkv, 512 text tokens", 512, 3072, 3072},
    {"FLUX.1 mlp up, 512 text tokens", 512, 12288, 3072},
};

template <typename Function>
double milliseconds(const Function& function) {
  const auto start = std::chrono::steady_clock::now();
  function();
  const std::chrono::duration<double, std::milli> elapsed =
      std::chrono::steady_clock::now() - start;
  return elapsed.count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
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

CpuTiming time_shape(const CpuShape& shape, int repeats) {
  const torch::Tensor x = torch::randn({shape.tokens, shape.channels});
  const ops::Linear24Weights weights{.weight = torch::randn({shape.outputs, shape.channels}),
                                     .bias = torch::randn({shape.outputs}),
                                     .lora_down = {},
                                     .lora_up = {}};
  verify(x, weights, shape.name);
  std::vector<double> dense, select, sparse;
  for (int i = 0; i < repeats; ++i) {
    dense.push_back(milliseconds([&] { torch::linear(x, weights.weight, *weights.bias); }));
    select.push_back(milliseconds([&] { ops::sparsify24(x); }));
    sparse.push_back(milliseconds([&] { ops::linear24(x, weights); }));
  }
  return {.name = shape.name,
          .tokens = shape.tokens,
          .outputs = shape.outputs,
          .channels = shape.channels,
          .dense_ms = median(dense),
          .sparsify24_ms = median(select),
          .linear24_ms = median(sparse)};
}

}  // namespace

std::vector<CpuTiming> time_cpu_linears(int repeats, std::uint64_t seed,
                                        const std::function<void(const CpuTiming&)>& finished) {
  const torch::InferenceMode inference;
  torch::manual_seed(seed);
  std::vector<CpuTiming> timings;
  for (const CpuShape& shape : kShapes) {
    timings.push_back(time_shape(shape, repeats));
    finished(timings.back());
  }
  return timings;
}

}  // namespace rtlynx
