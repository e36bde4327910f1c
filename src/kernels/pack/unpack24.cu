// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/device/expand24.cuh"
#include "kernels/device/packed_tile.h"
#include "kernels/pack/unpack24.h"

namespace rtlynx {
namespace {

constexpr int kThreads = 256;
constexpr int kBlockChannels = 16;  // a thread's: eight kept values, four nibbles
constexpr int kTileBlocks = kPackedTileChannels / kBlockChannels;

__global__ void __launch_bounds__(kThreads)
    unpack24_kernel(const std::byte* __restrict__ operand, std::uint16_t* __restrict__ kept,
                    std::int64_t rows, std::int64_t columns, std::int64_t row_stride) {
  const std::int64_t blocks = columns / kBlockChannels;
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
    const uint4 values =
        *reinterpret_cast<const uint4*>(tile + packed_chunk_offset(token, tile_block));
    const unsigned metadata =
        *reinterpret_cast<const std::uint16_t*>(tile + packed_metadata_offset(token, tile_block));

    device::store_expanded24(kept + row * row_stride + block * kBlockChannels, values, metadata);
  }
}

}  // namespace

cudaError_t launch_unpack24(const void* operand, MatrixView kept, cudaStream_t stream) {
  const bool aligned =
      reinterpret_cast<std::uintptr_t>(kept.data) % 16 == 0 && kept.row_stride % 8 == 0;
  if (size_of(kept.dtype) != 2 || kept.rows < 0 || kept.columns < 0 ||
      kept.columns % kBlockChannels != 0 || kept.row_stride < kept.columns || !aligned) {
    return cudaErrorInvalidValue;
  }
  const std::int64_t threads = kept.rows * (kept.columns / kBlockChannels);
  if (threads == 0) return cudaSuccess;
  const std::int64_t blocks = (threads + kThreads - 1) / kThreads;
  unpack24_kernel<<<static_cast<unsigned>(std::min<std::int64_t>(blocks, 1 << 20)), kThreads, 0,
                    stream>>>(static_cast<const std::byte*>(operand),
                              static_cast<std::uint16_t*>(kept.data), kept.rows, kept.columns,
                              kept.row_stride);
  return cudaGetLastError();
}

}  // namespace rtlynx
