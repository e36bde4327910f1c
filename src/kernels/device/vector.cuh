// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/device/element.cuh"

/// Eight neighbouring 16-bit elements: one access of 16 bytes.
namespace rtlynx::device {

inline constexpr int kVectorElements = 8;

/// Vector `index` of a row.
__device__ __forceinline__ uint4 load_vector(const void* row, int index) {
  return __ldg(static_cast<const uint4*>(row) + index);
}
__device__ __forceinline__ void store_vector(void* row, int index, const uint4& bits) {
  static_cast<uint4*>(row)[index] = bits;
}

template <typename Element>
__device__ __forceinline__ void widen(const uint4& bits, float (&values)[kVectorElements]) {
  const std::uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = Element::to_float2(pairs[i]);
    values[2 * i] = pair.x;
    values[2 * i + 1] = pair.y;
  }
}

template <typename Element>
__device__ __forceinline__ uint4 narrow(const float (&values)[kVectorElements]) {
  return {
      Element::from_float2({values[0], values[1]}), Element::from_float2({values[2], values[3]}),
      Element::from_float2({values[4], values[5]}), Element::from_float2({values[6], values[7]})};
}

}  // namespace rtlynx::device
