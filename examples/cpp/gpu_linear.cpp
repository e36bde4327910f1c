// SPDX-License-Identifier: Apache-2.0
// A linear layer on the GPU: packs the activation to 2:4, asks how to multiply it, does so, and
// compares a few tokens with the dense product.
#include <cuda_runtime_api.h>
#include <rtlynx/error.h>
#include <rtlynx/gpu/gemm24.h>
#include <rtlynx/gpu/pack24.h>
#include <rtlynx/operand24.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

namespace {

using Elements = std::vector<std::uint16_t>;  // bf16: the upper half of fp32

constexpr std::int64_t kTokens = 4096;    // M
constexpr std::int64_t kOutputs = 3072;   // N
constexpr std::int64_t kChannels = 3072;  // K
constexpr std::int64_t kCompared = 4;     // tokens

std::uint16_t to_bf16(float value) { return std::bit_cast<std::uint32_t>(value) >> 16; }
float to_float(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

struct Free {
  void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, Free>;

void check(cudaError_t status) {
  if (status != cudaSuccess) throw rtlynx::Error(cudaGetErrorString(status));
}

DeviceMemory allocate(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes));
  return DeviceMemory(memory);
}

DeviceMemory allocate_zeros(std::size_t bytes) {
  DeviceMemory memory = allocate(bytes);
  check(cudaMemset(memory.get(), 0, bytes));
  return memory;
}

DeviceMemory on_gpu(const Elements& elements) {
  DeviceMemory memory = allocate(elements.size() * 2);
  check(cudaMemcpy(memory.get(), elements.data(), elements.size() * 2, cudaMemcpyHostToDevice));
  return memory;
}

Elements sparse_linear(const Elements& x, const Elements& weight) {
  using namespace rtlynx;
  const gpu::Gemm24Shape shape{.tokens = kTokens, .outputs = kOutputs, .channels = kChannels};
  const gpu::DeviceTraits device = gpu::current_device();
  auto [config, reason] = gpu::select_gemm24(shape, device);
  std::printf("%s\n", reason.c_str());
  // An engine would call its dense GEMM.
  if (config.path == gpu::Gemm24Config::Path::dense) config.path = gpu::Gemm24Config::Path::sm80;

  const DeviceMemory x_gpu = on_gpu(x), weight_gpu = on_gpu(weight);
  const DeviceMemory operand = allocate(operand24_bytes(kTokens, kChannels));
  const DeviceMemory scale = allocate(kTokens * sizeof(float));
  const DeviceMemory y_gpu = allocate(kTokens * kOutputs * 2);
  const std::size_t workspace_bytes = gpu::gemm24_workspace_bytes(config, device);
  const DeviceMemory workspace = allocate_zeros(workspace_bytes);
  const std::size_t pack_workspace_bytes = gpu::pack24_workspace_bytes(/*rank=*/0, device);
  const DeviceMemory pack_workspace = allocate_zeros(pack_workspace_bytes);

  const void* const x_data = x_gpu.get();
  gpu::pack24({.x = contiguous(x_data, DType::bf16, kTokens, kChannels),
               .operand = operand.get(),
               .scale = static_cast<float*>(scale.get()),
               .down = {},  // no low-rank residual
               .low = nullptr,
               .workspace = pack_workspace.get(),
               .workspace_bytes = pack_workspace_bytes},
              nullptr);
  gpu::gemm24({.shape = shape,
               .operand = operand.get(),
               .weight = weight_gpu.get(),
               .scale = static_cast<float*>(scale.get()),
               .y = y_gpu.get(),
               .workspace = workspace.get(),
               .workspace_bytes = workspace_bytes,
               .follows_pack = true},
              config, nullptr);
  Elements y(kTokens * kOutputs);
  check(cudaMemcpy(y.data(), y_gpu.get(), y.size() * 2, cudaMemcpyDeviceToHost));
  return y;
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
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  Elements x(kTokens * kChannels), weight(kOutputs * kChannels);
  for (auto& value : x) value = to_bf16(std::pow(normal(random), 3.0f));  // most near zero
  for (auto& value : weight) value = to_bf16(normal(random));
  const Elements y = sparse_linear(x, weight);
  std::printf("error against dense %.4f\n", error_against_dense(y, x, weight));
}

}  // namespace

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
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
