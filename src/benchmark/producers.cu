// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "benchmark/device.h"
#include "benchmark/element.cuh"
#include "benchmark/producers.h"

namespace rtlynx::benchmark {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int kMaxRowThreads = 1024;

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

// Over the block; every thread gets the sum.
__device__ float block_sum(float value, float* partial) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = (static_cast<int>(blockDim.x) + kWarp - 1) / kWarp;
  __syncthreads();  // the partial sums of an earlier call have been read
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  float sum = lane < warps ? partial[lane] : 0.0f;
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  }
  return sum;
}

struct LayerNormArguments {
  const void* x;
  void* z;
  const float* multiplier;
  const float* shift;
  int vectors;  // of a row
  float eps;
};

// One block per row and one vector per thread, which keeps it in registers between the two sums.
template <typename T>
__global__ void __launch_bounds__(kMaxRowThreads) layer_norm_kernel(LayerNormArguments arguments) {
  __shared__ float partial[kWarp];
  const int i = static_cast<int>(threadIdx.x);
  const bool inside = i < arguments.vectors;
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * arguments.vectors + i;
  const float per_channel = 1.0f / static_cast<float>(arguments.vectors * kVectorElements);

  float row[kVectorElements] = {};
  float sum = 0;
  if (inside) {
    const Vector8<T> vector = static_cast<const Vector8<T>*>(arguments.x)[at];
#pragma unroll
    for (int e = 0; e < kVectorElements; ++e) {
      row[e] = widen(vector.values[e]);
      sum += row[e];
    }
  }
  const float mean = block_sum(sum, partial) * per_channel;

  float squares = 0;
  if (inside) {
#pragma unroll
    for (float& value : row) {
      value -= mean;
      squares += value * value;
    }
  }
  const float variance = block_sum(squares, partial) * per_channel;
  const float inverse = rsqrtf(variance + arguments.eps);
  if (!inside) return;

  const auto* const multiplier = reinterpret_cast<const float4*>(arguments.multiplier) + 2 * i;
  const auto* const shift = reinterpret_cast<const float4*>(arguments.shift) + 2 * i;
  const float4 m0 = multiplier[0], m1 = multiplier[1], s0 = shift[0], s1 = shift[1];
  const float factors[] = {m0.x, m0.y, m0.z, m0.w, m1.x, m1.y, m1.z, m1.w};
  const float shifts[] = {s0.x, s0.y, s0.z, s0.w, s1.x, s1.y, s1.z, s1.w};
  Vector8<T> vector;
#pragma unroll
  for (int e = 0; e < kVectorElements; ++e) {
    vector.values[e] = narrow<T>(fmaf(row[e] * inverse, factors[e], shifts[e]));
  }
  static_cast<Vector8<T>*>(arguments.z)[at] = vector;
}

template <typename T>
void launch_layer_norm(const DenseProducer& problem, cudaStream_t stream) {
  const LayerNormArguments arguments{
      .x = problem.x,
      .z = problem.z,
      .multiplier = problem.multiplier,
      .shift = problem.shift,
      .vectors = static_cast<int>(problem.channels / kVectorElements),
      .eps = problem.eps};
  // Whole warps: the shuffles of block_sum() name all lanes.
  const auto threads = static_cast<unsigned>(ceil_div(arguments.vectors, kWarp) * kWarp);
  layer_norm_kernel<T><<<static_cast<unsigned>(problem.tokens), threads, 0, stream>>>(arguments);
}

template <typename T>
void launch(const DenseProducer& problem, cudaStream_t stream) {
  const std::int64_t vectors = problem.tokens * problem.channels / kVectorElements;
  const auto blocks = static_cast<unsigned>(ceil_div(vectors, kThreads));
  const auto* const x = static_cast<const Vector8<T>*>(problem.x);
  const auto* const up = static_cast<const Vector8<T>*>(problem.up);
  auto* const z = static_cast<Vector8<T>*>(problem.z);
  switch (problem.kind) {
    case gpu::Producer::gelu:
      gelu_kernel<<<blocks, kThreads, 0, stream>>>(x, z, vectors);
      return;
    case gpu::Producer::swiglu:
      swiglu_kernel<<<blocks, kThreads, 0, stream>>>(x, up, z, vectors);
      return;
    case gpu::Producer::layer_norm:
      launch_layer_norm<T>(problem, stream);
      return;
    default:
      fail("dense producer", "gelu, swiglu or layer_norm", "another one");
  }
}

}  // namespace

void run_dense_producer(const DenseProducer& problem, cudaStream_t stream) {
  constexpr std::int64_t kMaxNormChannels = kMaxRowThreads * kVectorElements;
  const bool fits =
      problem.kind != gpu::Producer::layer_norm || problem.channels <= kMaxNormChannels;
  if (problem.channels % kVectorElements != 0 || !fits) {
    fail("dense producer", "a multiple of 8 channels, at most 8192 under a norm",
         std::to_string(problem.channels));
  }
  with_device_type(problem.dtype,
                   [&](auto element) { launch<decltype(element)>(problem, stream); });
  check_cuda(cudaGetLastError(), "dense producer");
}

}  // namespace rtlynx::benchmark
