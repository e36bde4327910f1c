// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include <algorithm>

#include "gpu/reference.h"
#include "kernels/check.h"
#include "kernels/device/element.cuh"

namespace rtlynx::testing {
namespace {

constexpr int kTile = 32;
constexpr int kThreads = 256;
constexpr int kBlocks = 512;

/// A well mixed hash of an element's index (splitmix64).
__device__ std::uint64_t mix(std::uint64_t index, std::uint32_t seed) {
  std::uint64_t z = index * 0x9e3779b97f4a7c15ull + (std::uint64_t{seed} << 32 | seed);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return z ^ z >> 31;
}

/// In (0, 1).
__device__ float uniform(std::uint32_t bits) {
  return (static_cast<float>(bits >> 9) + 0.5f) * 0x1p-23f;
}

struct Normal {
  float deviation;
  __device__ float operator()(std::uint64_t bits) const {
    const float radius = sqrtf(-2.0f * logf(uniform(static_cast<std::uint32_t>(bits))));
    return deviation * radius * cospif(2.0f * uniform(static_cast<std::uint32_t>(bits >> 32)));
  }
};

struct Integer {
  int largest;
  __device__ float operator()(std::uint64_t bits) const {
    return static_cast<float>(static_cast<int>((bits >> 33) % (2 * largest + 1)) - largest);
  }
};

struct Uniform {
  float low, high;
  __device__ float operator()(std::uint64_t bits) const {
    return low + (high - low) * uniform(static_cast<std::uint32_t>(bits));
  }
};

template <typename Element, typename Draw>
__global__ void fill_kernel(typename Element::Bits* data, std::int64_t count, std::uint32_t seed,
                            Draw draw) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += stride) {
    data[i] = Element::from_float(draw(mix(static_cast<std::uint64_t>(i), seed)));
  }
}

template <typename Draw>
void fill(void* data, DType dtype, std::int64_t count, std::uint32_t seed, Draw draw) {
  if (dtype == DType::f32) {
    fill_kernel<F32><<<kBlocks, kThreads>>>(static_cast<std::uint32_t*>(data), count, seed, draw);
  } else {
    auto* const bits = static_cast<std::uint16_t*>(data);
    if (dtype == DType::bf16) {
      fill_kernel<Bf16><<<kBlocks, kThreads>>>(bits, count, seed, draw);
    } else {
      fill_kernel<F16><<<kBlocks, kThreads>>>(bits, count, seed, draw);
    }
  }
  gpu::check(cudaGetLastError(), "fill");
}

/// Rows of 16-bit elements.
struct Rows {
  const std::uint16_t* data;
  std::int64_t stride;
  std::int64_t count;
};

/// sum += A[row] . B[column] over `depth`, for the block's kTile x kTile rows and columns.
template <typename Element, typename Sum>
__device__ void add_product(const Rows& a, const Rows& b, std::int64_t depth, Sum& sum) {
  __shared__ Sum a_tile[kTile][kTile + 1], b_tile[kTile][kTile + 1];
  const int x = threadIdx.x, y = threadIdx.y;
  const std::int64_t a_row = static_cast<std::int64_t>(blockIdx.y) * kTile + y;
  const std::int64_t b_row = static_cast<std::int64_t>(blockIdx.x) * kTile + y;
  const auto element = [depth](const Rows& rows, std::int64_t row, std::int64_t k) {
    if (row >= rows.count || k >= depth) return Sum{0};
    return static_cast<Sum>(Element::to_float(rows.data[row * rows.stride + k]));
  };
  for (std::int64_t k = 0; k < depth; k += kTile) {
    a_tile[y][x] = element(a, a_row, k + x);
    b_tile[y][x] = element(b, b_row, k + x);
    __syncthreads();
    for (int i = 0; i < kTile; ++i) sum = fma(a_tile[y][i], b_tile[x][i], sum);
    __syncthreads();
  }
}

struct Products {
  Rows kept, weight, low, up;
  std::int64_t channels;
  int rank;
  int segments;
  std::int64_t segment_ends[gpu::kMaxSegments];
};

/// Segments end on tiles: a block lies in one.
template <typename Element, typename Sum>
__global__ void product_kernel(Products products, Sum* sums) {
  Sum sum{0};
  add_product<Element>(products.kept, products.weight, products.channels, sum);
  if (products.rank > 0) {
    const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kTile;
    int segment = 0;
    while (segment + 1 < products.segments && first >= products.segment_ends[segment]) ++segment;
    Rows low = products.low;
    low.data += segment * products.rank;
    add_product<Element>(low, products.up, products.rank, sum);
  }
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kTile + threadIdx.y;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kTile + threadIdx.x;
  if (row < products.kept.count && column < products.weight.count) {
    sums[row * products.weight.count + column] = sum;
  }
}

template <typename Sum>
void launch_product(const gpu::Gemm24& problem, const void* kept, Sum* sums) {
  const gpu::Gemm24Shape& shape = problem.shape;
  const auto rows = [](const void* data, std::int64_t count, std::int64_t columns) {
    return Rows{static_cast<const std::uint16_t*>(data), columns, count};
  };
  Products products{
      .kept = rows(kept, shape.tokens, shape.channels),
      .weight = rows(problem.weight, shape.outputs, shape.channels),
      .low = rows(problem.low, shape.tokens, std::int64_t{problem.segments} * shape.rank),
      .up = rows(problem.up, shape.outputs, shape.rank),
      .channels = shape.channels,
      .rank = shape.rank,
      .segments = problem.segments,
      .segment_ends = {}};
  std::copy(problem.segment_ends.begin(), problem.segment_ends.end(), products.segment_ends);
  const dim3 blocks(static_cast<unsigned>((shape.outputs + kTile - 1) / kTile),
                    static_cast<unsigned>((shape.tokens + kTile - 1) / kTile));
  const dim3 threads(kTile, kTile);
  if (shape.dtype == DType::bf16) {
    product_kernel<Bf16><<<blocks, threads>>>(products, sums);
  } else {
    product_kernel<F16><<<blocks, threads>>>(products, sums);
  }
  gpu::check(cudaGetLastError(), "multiply");
}

/// residual + gate * act(s * sum + bias), all in Real.
template <typename Element, typename Real>
__device__ Real finish(const gpu::Gemm24& problem, std::int64_t row, std::int64_t column,
                       Real sum) {
  const std::int64_t outputs = problem.shape.outputs;
  const auto narrow = [](const void* data, std::int64_t index) {
    return static_cast<Real>(Element::to_float(static_cast<const std::uint16_t*>(data)[index]));
  };
  const Real scale = problem.scale == nullptr ? Real{1} : static_cast<Real>(problem.scale[row]);
  const Real bias = problem.bias == nullptr ? Real{0} : static_cast<Real>(problem.bias[column]);
  Real value = fma(scale, sum, bias);
  if (problem.activation == gpu::Activation::gelu) {
    const Real u = static_cast<Real>(0.7978845608028654) * value *
                   (Real{1} + static_cast<Real>(0.044715) * value * value);
    value = value / (Real{1} + exp(Real{-2} * u));
  }
  if (problem.gate != nullptr) {
    const std::int64_t image = problem.image_tokens > 0 ? row / problem.image_tokens : 0;
    value *= narrow(problem.gate, image * outputs + column);
  }
  if (problem.residual != nullptr) value += narrow(problem.residual, row * outputs + column);
  return value;
}

/// Of magnitudes the bits order as the values, NaN above all.
__device__ void atomic_largest(double* target, double magnitude) {
  atomicMax(reinterpret_cast<unsigned long long*>(target),
            static_cast<unsigned long long>(__double_as_longlong(magnitude)));
}

template <typename Element>
__global__ void compare_kernel(gpu::Gemm24 problem, const double* exact_sums,
                               const float* baseline_sums, Errors* result) {
  Errors errors;
  const std::int64_t count = problem.shape.tokens * problem.shape.outputs;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += stride) {
    const std::int64_t row = i / problem.shape.outputs, column = i % problem.shape.outputs;
    const double exact = finish<Element>(problem, row, column, exact_sums[i]);
    const std::uint16_t baseline_bits =
        Element::from_float(finish<Element>(problem, row, column, baseline_sums[i]));
    const std::uint16_t bits = static_cast<const std::uint16_t*>(problem.y)[i];
    const double error = fabs(Element::to_float(bits) - exact);
    const double baseline = fabs(Element::to_float(baseline_bits) - exact);
    errors.exact_squares += exact * exact;
    errors.error_squares += error * error;
    errors.baseline_squares += baseline * baseline;
    errors.largest_error = error <= errors.largest_error ? errors.largest_error : error;
    errors.largest_baseline = fmax(errors.largest_baseline, baseline);
    errors.differing += bits != baseline_bits;
  }
  atomicAdd(&result->exact_squares, errors.exact_squares);
  atomicAdd(&result->error_squares, errors.error_squares);
  atomicAdd(&result->baseline_squares, errors.baseline_squares);
  atomic_largest(&result->largest_error, errors.largest_error);
  atomic_largest(&result->largest_baseline, errors.largest_baseline);
  atomicAdd(&result->differing, errors.differing);
}

}  // namespace

void fill_normal(void* data, DType dtype, std::int64_t count, std::uint32_t seed, float deviation) {
  fill(data, dtype, count, seed, Normal{deviation});
}

void fill_integers(void* data, DType dtype, std::int64_t count, std::uint32_t seed, int largest) {
  fill(data, dtype, count, seed, Integer{largest});
}

void fill_uniform(float* data, std::int64_t count, std::uint32_t seed, float low, float high) {
  fill(data, DType::f32, count, seed, Uniform{low, high});
}

void multiply(const gpu::Gemm24& problem, const void* kept, double* sums) {
  launch_product(problem, kept, sums);
}

void multiply(const gpu::Gemm24& problem, const void* kept, float* sums) {
  launch_product(problem, kept, sums);
}

Errors compare(const gpu::Gemm24& problem, const double* exact_sums, const float* baseline_sums) {
  Errors* device_errors = nullptr;
  gpu::check(cudaMalloc(&device_errors, sizeof(Errors)), "compare");
  gpu::check(cudaMemset(device_errors, 0, sizeof(Errors)), "compare");
  const auto kernel =
      problem.shape.dtype == DType::bf16 ? compare_kernel<Bf16> : compare_kernel<F16>;
  kernel<<<kBlocks, kThreads>>>(problem, exact_sums, baseline_sums, device_errors);
  gpu::check(cudaGetLastError(), "compare");
  Errors errors;
  gpu::check(cudaMemcpy(&errors, device_errors, sizeof(Errors), cudaMemcpyDeviceToHost), "compare");
  gpu::check(cudaFree(device_errors), "compare");
  return errors;
}

}  // namespace rtlynx::testing
