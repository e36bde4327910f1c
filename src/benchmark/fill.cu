// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "benchmark/device.h"
#include "benchmark/element.cuh"
#include "benchmark/fill.h"

namespace rtlynx::benchmark {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 8192;

unsigned blocks_for(std::int64_t count) {
  return static_cast<unsigned>(std::clamp<std::int64_t>(ceil_div(count, kThreads), 1, kMaxBlocks));
}

// splitmix64: a counter is enough for a state.
__device__ std::uint64_t random_bits(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t bits = seed * 0xd1342543de82ef95ull + (index + 1) * 0x9e3779b97f4a7c15ull;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ull;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebull;
  return bits ^ (bits >> 31);
}

template <typename T>
__global__ void fill_kernel(T* data, std::int64_t count, Normal distribution) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += stride) {
    const std::uint64_t bits = random_bits(distribution.seed, static_cast<std::uint64_t>(i));
    // Box-Muller; the first uniform is never 0.
    const float radius = sqrtf(-2.0f * logf((static_cast<float>(bits >> 40) + 1.0f) * 0x1p-24f));
    const float angle = 0x1p-23f * static_cast<float>(bits & 0xffffffu);  // in units of pi
    data[i] = narrow<T>(distribution.mean + distribution.deviation * radius * cospif(angle));
  }
}

}  // namespace

void fill_normal(void* data, DType dtype, std::int64_t count, const Normal& distribution,
                 cudaStream_t stream) {
  with_device_type(dtype, [&](auto element) {
    fill_kernel<<<blocks_for(count), kThreads, 0, stream>>>(static_cast<decltype(element)*>(data),
                                                            count, distribution);
  });
  check_cuda(cudaGetLastError(), "fill_normal");
}

}  // namespace rtlynx::benchmark
