// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/mma.cuh"
#include "kernels/pack/select24.cuh"
#include "kernels/pack/sm80/traits.cuh"

/// Bringing the transform and `down` to shared memory, in the forms that products of a thread's
/// tokens take.
namespace rtlynx::pack::sm80 {

/// Fills the stages with the transform and `down`, a step at a time.
template <typename T>
class Stager {
 public:
  __device__ Stager(const Params& params, std::uint32_t base) : params_(params), base_(base) {}

  __device__ __forceinline__ void load(int step, int stage) const {
    const std::uint32_t target = base_ + stage * T::kStageBytes;
    if constexpr (T::kTransform > 0) load_transform(step, target);
    if constexpr (T::kRankTiles > 0) {
#pragma unroll
      for (int tile = 0; tile < T::kStepTiles; ++tile) {
        load_down(step * T::kStepTiles + tile, target + T::kTransformBytes + tile * T::kDownBytes);
      }
    }
  }

  __device__ std::uint32_t transform(int stage, int output_tile, int input_tile) const {
    return base_ + stage * T::kStageBytes +
           (output_tile * T::kTransform + input_tile) * 64 * T::kRowBytes;
  }
  __device__ std::uint32_t down(int stage, int tile) const {
    return base_ + stage * T::kStageBytes + T::kTransformBytes + tile * T::kDownBytes;
  }

 private:
  using Bits = typename T::Element::Bits;

  /// Rows of odd index have their 16-byte chunks swapped in pairs: lanes of two rows then read
  /// different banks.
  static __device__ std::uint32_t chunk_offset(int row, int chunk) {
    return row * T::kRowBytes + (chunk ^ (row & 1)) * 16;
  }

  __device__ void load_down(int tile, std::uint32_t target) const {
    const auto* const down = static_cast<const Bits*>(params_.down);
#pragma unroll 4
    for (int i = threadIdx.x; i < T::kRank * 8; i += kThreads) {
      const int row = i / 8, chunk = i % 8, channel = tile * 64 + chunk * 8;
      const int column = first_column<T>() + row;  // of H
      const bool inside = column < params_.low_columns && channel < params_.channels;
      const std::int64_t element = column * params_.down_stride + channel;
      device::cp_async_16(target + chunk_offset(row, chunk), inside ? down + element : down,
                          inside);
    }
  }

  /// Blocks smaller than a tile become a tile with zeros beside the diagonal.
  __device__ void load_transform(int step, std::uint32_t target) const {
    const auto* const transform = static_cast<const Bits*>(params_.transform);
    const int block = params_.transform_block;
    for (int i = threadIdx.x; i < T::kTransformBytes / 16; i += kThreads) {
      const int row = i / 8 % 64, chunk = i % 8, matrix = i / 512;
      const int output = matrix / T::kTransform * 64 + row;  // in the step
      const int input = matrix % T::kTransform * 64 + chunk * 8;
      const int first = step * T::kStepTiles * 64;
      const bool inside = output / block == input / block && first + output < params_.channels;
      const std::int64_t element =
          static_cast<std::int64_t>(first + output) * block + input % block;
      device::cp_async_16(target + matrix * 64 * T::kRowBytes + chunk_offset(row, chunk),
                          inside ? transform + element : transform, inside);
    }
  }

  const Params& params_;
  std::uint32_t base_;
};

/// d += x B^T for 8 rows of B [8, 64 channels] in shared memory; `row` is this lane's.
template <typename Element>
__device__ __forceinline__ void multiply_tile(float (&d)[4], const TokenPair& x,
                                              std::uint32_t matrix, int row) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 b =
        device::load_shared_vector(matrix + row * 128 + (((2 * t + half) ^ (row & 1)) * 16));
    const std::uint32_t pairs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int group = 2 * half + i;
      const std::uint32_t a[4] = {x.upper[2 * group], x.lower[2 * group], x.upper[2 * group + 1],
                                  x.lower[2 * group + 1]};
      const std::uint32_t fragment[2] = {pairs[2 * i], pairs[2 * i + 1]};
      device::mma_m16n8k16<Element>(d, a, fragment);
    }
  }
}

}  // namespace rtlynx::pack::sm80
