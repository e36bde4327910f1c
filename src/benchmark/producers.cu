// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "benchmark/device.h"
#include "benchmark/element.cuh"
#include "benchmark/producers.h"

namespace rtlynx::benchmark {
namespace {

constexpr int kThreads = 256;

// 0.5 x (1 + tanh(u)) = x / (1 + exp(-2 u)).
__device__ float gelu(float x) {
  constexpr float kRootTwoOverPi = 0.7978845608f;
  const float u = kRootTwoOverPi * (x + 0.044715f * x * x * x);
  return __fdividef(x, 1.0f + __expf(-2.0f * u));
}

__device__ float silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

template <typename T>
__global__ void gelu_kernel(const Vector8<T>* x, Vector8<T>* z, std::int64_t vectors) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= vectors) return;
  Vector8<T> vector = x[i];
#pragma unroll
  for (T& value : vector.values) value = narrow<T>(gelu(widen(value)));
  z[i] = vector;
}

template <typename T>
__global__ void swiglu_kernel(const Vector8<T>* x, const Vector8<T>* up, Vector8<T>* z,
                              std::int64_t vectors) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= vectors) return;
  const Vector8<T> gate = x[i], factor = up[i];
  Vector8<T> product;
#pragma unroll
  for (int e = 0; e < kVectorElements; ++e) {
    product.values[e] = narrow<T>(silu(widen(gate.values[e])) * widen(factor.values[e]));
  }
  z[i] = product;
}

}  // namespace

void run_elementwise(const Pack24& source, MatrixView z, cudaStream_t stream) {
  const bool gelu = source.producer == Producer::gelu;
  if (!gelu && source.producer != Producer::swiglu) {
    fail("dense producer", "gelu or swiglu", "another one");
  }
  if (z.columns % kVectorElements != 0) {
    fail("dense producer", "a multiple of 8 channels", std::to_string(z.columns));
  }
  const std::int64_t vectors = z.rows * z.columns / kVectorElements;
  const auto blocks = static_cast<unsigned>(ceil_div(vectors, kThreads));
  with_device_type(z.dtype, [&](auto element) {
    using Vector = Vector8<decltype(element)>;
    const auto* const x = static_cast<const Vector*>(source.x.data);
    auto* const out = static_cast<Vector*>(z.data);
    if (gelu) {
      gelu_kernel<<<blocks, kThreads, 0, stream>>>(x, out, vectors);
    } else {
      swiglu_kernel<<<blocks, kThreads, 0, stream>>>(x, static_cast<const Vector*>(source.up.data),
                                                     out, vectors);
    }
  });
  check_cuda(cudaGetLastError(), "dense producer");
}

}  // namespace rtlynx::benchmark
