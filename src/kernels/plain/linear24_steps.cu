// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/device/element.cuh"
#include "kernels/plain/linear24_steps.h"

namespace rtlynx {
namespace {

constexpr int kThreads = 256;

// Results may be written over their own inputs, element for element: no __restrict__ here.
template <typename Element>
__global__ void __launch_bounds__(kThreads)
    divide_rows_kernel(const float* h, const float* scale, typename Element::Bits* result,
                       std::int64_t rows, std::int64_t columns) {
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float s = scale == nullptr ? 1.0f : scale[row];
    for (std::int64_t r = threadIdx.x; r < columns; r += kThreads) {
      const std::int64_t at = row * columns + r;
      result[at] = Element::from_float(h[at] / s);
    }
  }
}

template <typename Element>
__global__ void __launch_bounds__(kThreads)
    epilogue_kernel(const float* acc, const float* low, const float* scale,
                    const typename Element::Bits* bias, typename Element::Bits* y,
                    std::int64_t rows, std::int64_t columns) {
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float s = scale == nullptr ? 1.0f : scale[row];
    for (std::int64_t n = threadIdx.x; n < columns; n += kThreads) {
      const std::int64_t at = row * columns + n;
      const float sum = low == nullptr ? acc[at] : acc[at] + low[at];
      const float b = bias == nullptr ? 0.0f : Element::to_float(bias[n]);
      y[at] = Element::from_float(fmaf(s, sum, b));
    }
  }
}

unsigned blocks_for(std::int64_t rows) {
  return static_cast<unsigned>(std::min<std::int64_t>(rows, 1 << 20));
}

/// Calls `launch` with the element type that stands for `dtype`.
template <typename Launch>
cudaError_t dispatch(DType dtype, Launch launch) {
  switch (dtype) {
    case DType::f32:
      return launch(F32{});
    case DType::f16:
      return launch(F16{});
    case DType::bf16:
      return launch(Bf16{});
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t launch_divide_rows(const DivideRows& problem, cudaStream_t stream) {
  if (problem.rows <= 0) return problem.rows == 0 ? cudaSuccess : cudaErrorInvalidValue;
  return dispatch(problem.dtype, [&](auto element) {
    using Element = decltype(element);
    divide_rows_kernel<Element><<<blocks_for(problem.rows), kThreads, 0, stream>>>(
        problem.h, problem.scale, static_cast<typename Element::Bits*>(problem.result),
        problem.rows, problem.columns);
    return cudaGetLastError();
  });
}

cudaError_t launch_linear24_epilogue(const Linear24Epilogue& problem, cudaStream_t stream) {
  if (problem.rows <= 0) return problem.rows == 0 ? cudaSuccess : cudaErrorInvalidValue;
  return dispatch(problem.dtype, [&](auto element) {
    using Element = decltype(element);
    using Bits = typename Element::Bits;
    epilogue_kernel<Element><<<blocks_for(problem.rows), kThreads, 0, stream>>>(
        problem.acc, problem.low, problem.scale, static_cast<const Bits*>(problem.bias),
        static_cast<Bits*>(problem.y), problem.rows, problem.columns);
    return cudaGetLastError();
  });
}

}  // namespace rtlynx
