// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <random>

#include "benchmark/element.cuh"
#include "benchmark/sampler.h"

namespace rtlynx::benchmark {
namespace {

constexpr int kRandomElements = 1024;
constexpr int kRandomRows = 14;
constexpr int kWarp = 32;
constexpr int kThreads = 256;

// What one lane of a warp sums, then the warp.
template <typename Sum, typename T>
__device__ Sum warp_dot(const T* a, const T* b, std::int64_t count) {
  Sum sum = 0;
  for (std::int64_t i = threadIdx.x % kWarp; i < count; i += kWarp) {
    sum += static_cast<Sum>(widen(a[i])) * static_cast<Sum>(widen(b[i]));
  }
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  }
  return sum;
}

template <typename Sum, typename T>
__global__ void product_kernel(SampledProduct product, const Sampler::Element* elements,
                               std::int64_t count, double* values) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  if (i >= count) return;
  const auto [row, column] = elements[i];
  Sum sum = warp_dot<Sum>(static_cast<const T*>(product.a) + row * product.channels,
                          static_cast<const T*>(product.weight) + column * product.channels,
                          product.channels);
  if (product.low != nullptr) {
    int weight = 0;
    while (column >= product.ends[weight]) ++weight;
    sum += warp_dot<Sum>(
        static_cast<const T*>(product.low) + row * product.low_columns + weight * product.rank,
        static_cast<const T*>(product.up) + column * product.rank, product.rank);
  }
  if (product.scale != nullptr) sum *= static_cast<Sum>(product.scale[row]);
  if (product.bias != nullptr) {
    sum += static_cast<Sum>(widen(static_cast<const T*>(product.bias)[column]));
  }
  if (threadIdx.x % kWarp == 0) values[i] = static_cast<double>(sum);
}

template <typename T>
__global__ void round_kernel(double* values, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) values[i] = widen(narrow<T>(static_cast<float>(values[i])));
}

template <typename T>
__global__ void gather_kernel(const T* y, std::int64_t outputs, const Sampler::Element* elements,
                              std::int64_t count, double* values) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) values[i] = widen(y[elements[i].row * outputs + elements[i].column]);
}

unsigned blocks_for(std::int64_t threads) {
  return static_cast<unsigned>(ceil_div(threads, kThreads));
}

}  // namespace

Sampler::Sampler(std::int64_t tokens, std::int64_t outputs, DType dtype, std::uint64_t seed)
    : outputs_(outputs), dtype_(dtype) {
  std::mt19937_64 random(seed);
  std::uniform_int_distribution<std::int64_t> any_row(0, tokens - 1), any_column(0, outputs - 1);
  std::vector<Element> elements;
  for (std::int64_t column = 0; column < outputs; ++column) {
    elements.push_back({0, column});
    elements.push_back({tokens - 1, column});
  }
  for (int i = 0; i < kRandomElements; ++i) {
    const std::int64_t row = any_row(random);
    elements.push_back({row, any_column(random)});
  }
  rows_ = {0, tokens - 1};
  for (int i = 0; i < kRandomRows; ++i) rows_.push_back(any_row(random));

  count_ = static_cast<std::int64_t>(elements.size());
  elements_ = DeviceBuffer(elements.size() * sizeof(Element));
  values_ = DeviceBuffer(elements.size() * sizeof(double));
  check_cuda(
      cudaMemcpy(elements_.data(), elements.data(), elements_.bytes(), cudaMemcpyHostToDevice),
      "copy of the sampled positions");
}

std::vector<double> Sampler::fetch(cudaStream_t stream) const {
  std::vector<double> values(static_cast<std::size_t>(count_));
  check_cuda(cudaGetLastError(), "sampling kernel");
  check_cuda(cudaMemcpyAsync(values.data(), values_.data(), values_.bytes(), cudaMemcpyDeviceToHost,
                             stream),
             "copy of the sampled elements");
  check_cuda(cudaStreamSynchronize(stream), "sampling");
  return values;
}

std::vector<double> Sampler::exact(const SampledProduct& product, cudaStream_t stream) const {
  with_device_type(dtype_, [&](auto element) {
    product_kernel<double, decltype(element)><<<blocks_for(count_ * kWarp), kThreads, 0, stream>>>(
        product, elements_.as<Element>(), count_, values_.as<double>());
  });
  return fetch(stream);
}

std::vector<double> Sampler::plain(const SampledProduct& product, cudaStream_t stream) const {
  with_device_type(dtype_, [&](auto element) {
    using T = decltype(element);
    product_kernel<float, T><<<blocks_for(count_ * kWarp), kThreads, 0, stream>>>(
        product, elements_.as<Element>(), count_, values_.as<double>());
    round_kernel<T><<<blocks_for(count_), kThreads, 0, stream>>>(values_.as<double>(), count_);
  });
  return fetch(stream);
}

std::vector<double> Sampler::gather(const void* y, cudaStream_t stream) const {
  with_device_type(dtype_, [&](auto element) {
    gather_kernel<<<blocks_for(count_), kThreads, 0, stream>>>(
        static_cast<const decltype(element)*>(y), outputs_, elements_.as<Element>(), count_,
        values_.as<double>());
  });
  return fetch(stream);
}

double relative_error(const std::vector<double>& values, const std::vector<double>& exact) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    difference += (values[i] - exact[i]) * (values[i] - exact[i]);
    norm += exact[i] * exact[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace rtlynx::benchmark
