// SPDX-License-Identifier: Apache-2.0
// A linear layer on the GPU: asks how to multiply, packs the activation to 2:4, multiplies, and
// compares a few tokens with the dense product.
#include <rtlynx/gpu/pack24.h>
#include <rtlynx/gpu/product24.h>
#include <rtlynx/operand24.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "device_memory.h"

namespace {

namespace gpu = rtlynx::gpu;

constexpr std::int64_t kTokens = 4096;    // M
constexpr std::int64_t kOutputs = 3072;   // N
constexpr std::int64_t kChannels = 3072;  // K
constexpr std::int64_t kCompared = 4;     // tokens

Elements sparse_linear(const DeviceMatrix& x, const DeviceMatrix& weight) {
  const gpu::DeviceTraits device = gpu::current_device();
  auto [config, reason] =
      gpu::select_gemm24({.tokens = kTokens, .outputs = kOutputs, .channels = kChannels}, device);
  std::printf("%s\n", reason.c_str());
  // An engine would call its dense GEMM.
  if (config.path == gpu::Gemm24Config::Path::dense) config.path = gpu::Gemm24Config::Path::sm80;

  const DeviceMemory operand = allocate_zeros(rtlynx::operand24_bytes(kTokens, kChannels));
  const DeviceMemory scale = allocate_zeros(kTokens * sizeof(float));
  const DeviceMatrix y(kTokens, kOutputs);
  // One workspace for all calls on a stream, zero before the first.
  const std::size_t workspace_bytes =
      std::max(gpu::pack24_workspace_bytes(/*low_columns=*/0, device),
               gpu::product24_workspace_bytes(config, device));
  const DeviceMemory memory = allocate_zeros(workspace_bytes);
  const gpu::Workspace workspace{memory.get(), workspace_bytes};

  const gpu::PackedInput packed{.tokens = kTokens,
                                .channels = kChannels,
                                .operand = operand.get(),
                                .scale = static_cast<float*>(scale.get())};
  gpu::pack24({.x = x.view()}, packed, workspace, /*stream=*/nullptr);
  const rtlynx::Product24 linear{.weight = weight.view(), .y = y.view()};
  gpu::product24(packed, {&linear, 1}, config, workspace, /*stream=*/nullptr);
  return y.read();
}

// ||y - x weight^T|| / ||x weight^T|| of the first tokens
double error_against_dense(const Elements& y, const Elements& x, const Elements& weight) {
  double error = 0.0, energy = 0.0;
  for (std::int64_t m = 0; m < kCompared; ++m) {
    for (std::int64_t n = 0; n < kOutputs; ++n) {
      double sum = 0.0;
      for (std::int64_t k = 0; k < kChannels; ++k) {
        sum += double{to_float(x[m * kChannels + k])} * to_float(weight[n * kChannels + k]);
      }
      error += std::pow(to_float(y[m * kOutputs + n]) - sum, 2.0);
      energy += sum * sum;
    }
  }
  return std::sqrt(error / energy);
}

void run() {
  const DeviceMatrix x = random_matrix(kTokens, kChannels, 1.0f);
  const DeviceMatrix weight = random_matrix(kOutputs, kChannels, 1.0f);
  const Elements y = sparse_linear(x, weight);
  std::printf("error against dense %.4f\n", error_against_dense(y, x.read(), weight.read()));
}

}  // namespace

int main() {
  if (!has_gpu()) {
    std::fprintf(stderr, "no CUDA device\n");
    return 1;
  }
  try {
    run();
  } catch (const rtlynx::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
