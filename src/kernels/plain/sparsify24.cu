// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/device/element.cuh"
#include "kernels/plain/sparsify24.h"

namespace rtlynx {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

template <typename Bits>
struct alignas(4 * sizeof(Bits)) Group {
  Bits element[4];
};

/// Four elements in one access, where the pointers allow it.
template <bool kAligned, typename Bits>
__device__ Group<Bits> load(const Bits* source) {
  using Vector = std::conditional_t<sizeof(Bits) == 4, uint4, uint2>;
  Group<Bits> group;
  if constexpr (kAligned) {
    *reinterpret_cast<Vector*>(group.element) = *reinterpret_cast<const Vector*>(source);
  } else {
    for (int i = 0; i < 4; ++i) group.element[i] = source[i];
  }
  return group;
}

template <bool kAligned, typename Bits>
__device__ void store(Bits* target, const Group<Bits>& group) {
  using Vector = std::conditional_t<sizeof(Bits) == 4, uint4, uint2>;
  if constexpr (kAligned) {
    *reinterpret_cast<Vector*>(target) = *reinterpret_cast<const Vector*>(group.element);
  } else {
    for (int i = 0; i < 4; ++i) target[i] = group.element[i];
  }
}

/// Magnitudes as integers: they order as the values do, NaN above infinity and all NaN equal.
template <typename Element>
__device__ std::uint32_t magnitude(typename Element::Bits bits) {
  constexpr std::uint32_t kAbsolute = sizeof(bits) == 4 ? 0x7fffffffu : 0x7fffu;
  return min(static_cast<std::uint32_t>(bits) & kAbsolute,
             static_cast<std::uint32_t>(Element::kInfinity) + 1);
}

/// Bit i says that element i stays: fewer than two others beat it, the lower channel winning ties.
template <typename Element>
__device__ unsigned select2(const Group<typename Element::Bits>& group) {
  std::uint32_t key[4];
  for (int i = 0; i < 4; ++i) key[i] = magnitude<Element>(group.element[i]);
  unsigned mask = 0;
  for (int i = 0; i < 4; ++i) {
    int beaten = 0;
    for (int j = 0; j < 4; ++j) {
      if (j < i) beaten += key[j] >= key[i];
      if (j > i) beaten += key[j] > key[i];
    }
    if (beaten < 2) mask |= 1u << i;
  }
  return mask;
}

/// Reduces over the block; every thread gets the result. `shared` holds kWarps values.
template <typename T, typename Combine>
__device__ T block_reduce(T value, T* shared, Combine combine) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  value = shared[0];
  for (int warp = 1; warp < kWarps; ++warp) value = combine(value, shared[warp]);
  __syncthreads();  // before the next reduction overwrites shared
  return value;
}

/// One block per token, further tokens in strides of the grid.
template <typename Element, bool kAligned>
__global__ void __launch_bounds__(kThreads)
    sparsify24_kernel(const typename Element::Bits* __restrict__ x,
                      typename Element::Bits* __restrict__ kept, float* __restrict__ scale,
                      std::int64_t rows, std::int64_t columns) {
  using Bits = typename Element::Bits;
  __shared__ std::uint32_t shared_magnitude[kWarps];
  __shared__ float shared_sum[kWarps];

  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const Bits* const x_row = x + row * columns;
    Bits* const kept_row = kept + row * columns;
    std::uint32_t largest = 0;
    for (std::int64_t k = 4 * threadIdx.x; k < columns; k += 4 * kThreads) {
      Group<Bits> group = load<kAligned>(x_row + k);
      const unsigned mask = select2<Element>(group);
      for (int i = 0; i < 4; ++i) {
        largest = max(largest, magnitude<Element>(group.element[i]));
        if (!(mask >> i & 1)) group.element[i] = 0;
      }
      store<kAligned>(kept_row + k, group);
    }
    if (scale == nullptr) continue;

    largest = block_reduce(largest, shared_magnitude, [](auto a, auto b) { return max(a, b); });
    if (largest == 0 || largest >= Element::kInfinity) {  // zeros only, or NaN or infinity
      if (threadIdx.x == 0) scale[row] = 1.0f;
      continue;
    }
    // Squares of the values over the largest: neither overflow nor vanish.
    const float unit = Element::to_float(static_cast<Bits>(largest));
    float kept_sum = 0.0f;
    float dropped_sum = 0.0f;
    for (std::int64_t k = 4 * threadIdx.x; k < columns; k += 4 * kThreads) {
      const Group<Bits> group = load<kAligned>(x_row + k);
      const unsigned mask = select2<Element>(group);
      for (int i = 0; i < 4; ++i) {
        const float value = Element::to_float(group.element[i]) / unit;
        (mask >> i & 1 ? kept_sum : dropped_sum) += value * value;
      }
    }
    const auto add = [](float a, float b) { return a + b; };
    kept_sum = block_reduce(kept_sum, shared_sum, add);
    dropped_sum = block_reduce(dropped_sum, shared_sum, add);
    if (threadIdx.x == 0) scale[row] = sqrtf(1.0f + dropped_sum / kept_sum);
  }
}

template <typename Element>
cudaError_t launch(const Sparsify24& problem, cudaStream_t stream) {
  using Bits = typename Element::Bits;
  const auto* const x = static_cast<const Bits*>(problem.x);
  auto* const kept = static_cast<Bits*>(problem.kept);
  const auto address =
      reinterpret_cast<std::uintptr_t>(problem.x) | reinterpret_cast<std::uintptr_t>(problem.kept);
  const bool aligned = address % (4 * sizeof(Bits)) == 0;  // rows are whole groups
  const auto kernel =
      aligned ? sparsify24_kernel<Element, true> : sparsify24_kernel<Element, false>;
  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(problem.rows, 1 << 20));
  kernel<<<blocks, kThreads, 0, stream>>>(x, kept, problem.scale, problem.rows, problem.columns);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_sparsify24(const Sparsify24& problem, cudaStream_t stream) {
  if (problem.rows < 0 || problem.columns < 0 || problem.columns % 4 != 0) {
    return cudaErrorInvalidValue;
  }
  if (problem.rows == 0) return cudaSuccess;
  switch (problem.dtype) {
    case DType::f32:
      return launch<F32>(problem, stream);
    case DType::f16:
      return launch<F16>(problem, stream);
    case DType::bf16:
      return launch<Bf16>(problem, stream);
    case DType::e4m3:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace rtlynx
