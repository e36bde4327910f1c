// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/device/expand24.cuh"
#include "kernels/device/packed_tile.h"
#include "kernels/pack/operand_rows.h"

namespace rtlynx {
namespace {

constexpr int kThreads = 256;
constexpr int kBlockChannels = 16;  // a thread's: eight values, which are one uint4, four nibbles
constexpr int kBlockValues = kBlockChannels / 2;
constexpr int kTileBlocks = kPackedTileChannels / kBlockChannels;

__global__ void __launch_bounds__(kThreads)
    operand_to_rows_kernel(const std::byte* __restrict__ operand, uint4* __restrict__ values,
                           std::uint16_t* __restrict__ metadata, std::int64_t rows,
                           std::int64_t blocks) {
  const std::int64_t tiles_down = (rows + kPackedTileTokens - 1) / kPackedTileTokens;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
       i < rows * blocks; i += stride) {
    const std::int64_t row = i / blocks;
    const std::int64_t block = i % blocks;
    const std::byte* const tile =
        operand + (block / kTileBlocks * tiles_down + row / kPackedTileTokens) * kPackedTileBytes;
    const int token = static_cast<int>(row % kPackedTileTokens);
    const int tile_block = static_cast<int>(block % kTileBlocks);
    values[i] = *reinterpret_cast<const uint4*>(tile + packed_chunk_offset(token, tile_block));
    metadata[i] =
        *reinterpret_cast<const std::uint16_t*>(tile + packed_metadata_offset(token, tile_block));
  }
}

__global__ void __launch_bounds__(kThreads)
    unpack_rows_kernel(const uint4* __restrict__ values, const std::uint16_t* __restrict__ metadata,
                       std::uint16_t* __restrict__ kept, std::int64_t blocks) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < blocks;
       i += stride) {
    device::store_expanded24(kept + i * kBlockChannels, values[i], metadata[i]);
  }
}

bool is_valid(ConstMatrixView values, const void* kept) {
  const auto addresses =
      reinterpret_cast<std::uintptr_t>(values.data) | reinterpret_cast<std::uintptr_t>(kept);
  return size_of(values.dtype) == 2 && values.rows >= 0 && values.columns >= 0 &&
         values.columns % kBlockValues == 0 && values.row_stride == values.columns &&
         addresses % 16 == 0;
}

unsigned grid_for(std::int64_t threads) {
  return static_cast<unsigned>(
      std::min<std::int64_t>((threads + kThreads - 1) / kThreads, 1 << 20));
}

}  // namespace

cudaError_t launch_operand_to_rows(const void* operand, MatrixView values, std::uint16_t* metadata,
                                   cudaStream_t stream) {
  if (!is_valid(values, nullptr)) return cudaErrorInvalidValue;
  const std::int64_t blocks = values.columns / kBlockValues;
  if (values.rows * blocks == 0) return cudaSuccess;
  operand_to_rows_kernel<<<grid_for(values.rows * blocks), kThreads, 0, stream>>>(
      static_cast<const std::byte*>(operand), static_cast<uint4*>(values.data), metadata,
      values.rows, blocks);
  return cudaGetLastError();
}

cudaError_t launch_unpack_rows(ConstMatrixView values, const std::uint16_t* metadata, void* kept,
                               cudaStream_t stream) {
  if (!is_valid(values, kept)) return cudaErrorInvalidValue;
  const std::int64_t blocks = values.rows * (values.columns / kBlockValues);
  if (blocks == 0) return cudaSuccess;
  unpack_rows_kernel<<<grid_for(blocks), kThreads, 0, stream>>>(
      static_cast<const uint4*>(values.data), metadata, static_cast<std::uint16_t*>(kept), blocks);
  return cudaGetLastError();
}

}  // namespace rtlynx
