// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/cta.cuh"
#include "kernels/device/launch.h"
#include "kernels/device/math.cuh"
#include "kernels/device/vector.cuh"
#include "kernels/rows/params.h"

/// One CTA for a token. Both halves of a stacked product are rows that lie apart, which torch's
/// elementwise kernels read element by element.
namespace rtlynx::rows {
namespace {

using device::kVectorElements;

constexpr int kThreads = 256;

template <typename Element>
__device__ uint4 gate_vector(const uint4& gate, const uint4& up) {
  float g[kVectorElements], u[kVectorElements];
  device::widen<Element>(gate, g);
  device::widen<Element>(up, u);
#pragma unroll
  for (int k = 0; k < kVectorElements; ++k) g[k] = device::silu(g[k]) * u[k];
  return device::narrow<Element>(g);
}

template <typename Element>
__global__ void __launch_bounds__(kThreads)
    swiglu_kernel(const __grid_constant__ SwigluParams params) {
  device::let_next_grid_start();
  device::wait_for_previous_grid();
  const std::int64_t token = blockIdx.x;
  const auto* const gate =
      static_cast<const std::uint16_t*>(params.gate) + token * params.gate_stride;
  const auto* const up = static_cast<const std::uint16_t*>(params.up) + token * params.up_stride;
  auto* const y = static_cast<std::uint16_t*>(params.y) + token * params.y_stride;
  const int vectors = params.columns / kVectorElements;
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += kThreads) {
    const uint4 result =
        gate_vector<Element>(device::load_vector(gate, i), device::load_vector(up, i));
    device::store_vector(y, i, result);
  }
}

template <typename Element>
cudaError_t launch_element(const SwigluParams& params, const Launch& launch) {
  return device::launch_early(swiglu_kernel<Element>, dim3(static_cast<unsigned>(params.tokens)),
                              kThreads, params, launch.compute_capability, launch.stream);
}

}  // namespace

cudaError_t launch_swiglu(DType dtype, const SwigluParams& params, const Launch& launch) {
  return dtype == DType::bf16 ? launch_element<Bf16>(params, launch)
                              : launch_element<F16>(params, launch);
}

}  // namespace rtlynx::rows
