// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/device/launch.h"
#include "kernels/device/mma.cuh"
#include "kernels/device/shared.cuh"
#include "kernels/gemm/epilogue.cuh"
#include "kernels/gemm/sm80/launch.h"
#include "kernels/gemm/sm80/layout.h"

namespace rtlynx {
namespace sm80 {
namespace {

/// One weight and its result.
template <typename Element>
struct Output {
  using Bits = typename Element::Bits;
  const Bits* weight;  // [N, K]
  std::int64_t weight_stride;
  const Bits* up;  // [N, R]
  std::int64_t up_stride;
  Bits* y;  // [M, N]
  std::int64_t y_stride;
  EpilogueParams epilogue;
  int first_tile;  // of outputs; its last tile may be ragged
  int low_column;  // its first of `low`
};

template <typename Element>
struct Params {
  using Bits = typename Element::Bits;
  const std::byte* operand;  // [ceil(K/64)][ceil(M/64)] tiles
  const Bits* low;           // [M, columns]
  std::int64_t low_stride;
  Output<Element> outputs[kMaxProducts];
  int output_count;
  int tokens;
  int channels;
  int rank;
  int token_tiles;
  int output_tiles;
};

/// The block's tile: its first token, and its first output of one Y.
template <typename Element>
struct Corner {
  int token;
  const Output<Element>* of;
  int output;
};

template <typename Element>
__device__ Corner<Element> corner_of(const Params<Element>& params, const Tile& tile) {
  int index = 0;
  while (index + 1 < params.output_count && tile.outputs >= params.outputs[index + 1].first_tile) {
    ++index;
  }
  const Output<Element>& of = params.outputs[index];
  return {tile.tokens * kTileTokens, &of, (tile.outputs - of.first_tile) * kTileOutputs};
}

struct Accumulators {
  float value[kTokenFragments][kOutputFragments][4];
};

/// Tokens of the second packed tile may not exist; then the first one comes twice, and what it
/// gives is not stored.
template <typename Element>
__device__ void load_operand(const Params<Element>& params, const Corner<Element>& corner, int step,
                             std::uint32_t stage) {
  const std::int64_t tiles_down = (params.tokens + kPackedTileTokens - 1) / kPackedTileTokens;
  const std::int64_t first_tile = step * tiles_down + corner.token / kPackedTileTokens;
  const std::byte* const first = params.operand + first_tile * kPackedTileBytes;
  const bool has_second = corner.token + kPackedTileTokens < params.tokens;
  const std::byte* const second = has_second ? first + kPackedTileBytes : first;
#pragma unroll
  for (int i = 0; i < kOperandCopies; ++i) {
    const int offset = operand_copy(threadIdx.x, i) * kChunkBytes;
    const bool always = (i + 1) * kThreads <= kOperandChunks;
    if (!always && offset >= kOperandBytes) break;
    const std::byte* const source =
        offset < kPackedTileBytes ? first + offset : second + (offset - kPackedTileBytes);
    device::cp_async_16(stage + offset, source, true);
  }
}

/// Zeros past N and, lest they be NaN, past K.
template <typename Element>
__device__ void load_weight(const Params<Element>& params, const Corner<Element>& corner, int step,
                            std::uint32_t stage) {
#pragma unroll
  for (int i = 0; i < kWeightCopies; ++i) {
    const ChunkPlace at = weight_copy(threadIdx.x, i);
    const int output = corner.output + at.row;
    const int channel = step * kTileChannels + at.chunk * kChunkElements;
    device::cp_async_16(stage + kOperandBytes + weight_chunk_offset(at.row, at.chunk),
                        corner.of->weight + output * corner.of->weight_stride + channel,
                        output < corner.of->epilogue.outputs && channel < params.channels);
  }
}

/// Columns kRankStep * step .. of the output's part of low and of up, zeros outside.
template <typename Element>
__device__ void load_low_rank(const Params<Element>& params, const Corner<Element>& corner,
                              int step, std::uint32_t stage) {
  const Output<Element>& of = *corner.of;
#pragma unroll
  for (int i = 0; i < kLowRankCopies; ++i) {
    const ChunkPlace at = low_rank_copy(threadIdx.x, i);
    const int token = corner.token + at.row;
    const int output = corner.output + at.row;
    const int column = step * kRankStep + at.chunk * kChunkElements;
    const std::uint32_t target = stage + narrow_chunk_offset(at.row, at.chunk);
    device::cp_async_16(target, params.low + token * params.low_stride + of.low_column + column,
                        token < params.tokens && column < params.rank);
    device::cp_async_16(target + kOperandBytes, of.up + output * of.up_stride + column,
                        output < of.epilogue.outputs && column < params.rank);
  }
}

template <typename Element, int kHalf>
__device__ void multiply_half(std::uint32_t stage, int warp, int lane,
                              const std::uint32_t (&metadata)[kTokenFragments],
                              Accumulators& sums) {
  std::uint32_t a[kTokenFragments][4];
#pragma unroll
  for (int m = 0; m < kTokenFragments; ++m) {
    device::ldmatrix_x4(a[m], stage + value_row(warp, m, kHalf, lane));
  }
#pragma unroll
  for (int n = 0; n < kOutputFragments; ++n) {
    std::uint32_t b[4];
    device::ldmatrix_x4(b, stage + weight_row(warp, n, kHalf, lane));
#pragma unroll
    for (int m = 0; m < kTokenFragments; ++m) {
      device::mma_sp_m16n8k32<Element, kHalf>(sums.value[m][n], a[m], b, metadata[m]);
    }
  }
}

template <typename Element>
__device__ void multiply_sparse(std::uint32_t stage, int warp, int lane, Accumulators& sums) {
  std::uint32_t metadata[kTokenFragments];
#pragma unroll
  for (int m = 0; m < kTokenFragments; ++m) {
    metadata[m] = device::load_shared(stage + metadata_word(warp, m, lane));
  }
  multiply_half<Element, 0>(stage, warp, lane, metadata, sums);
  multiply_half<Element, 1>(stage, warp, lane, metadata, sums);
}

template <typename Element>
__device__ void multiply_low_rank(std::uint32_t stage, int warp, int lane, Accumulators& sums) {
#pragma unroll
  for (int half = 0; half < kRankStep / 16; ++half) {
    std::uint32_t a[kTokenFragments][4];
#pragma unroll
    for (int m = 0; m < kTokenFragments; ++m) {
      device::ldmatrix_x4(a[m], stage + low_row(warp, m, half, lane));
    }
#pragma unroll
    for (int n = 0; n < kOutputFragments; ++n) {
      std::uint32_t b[2];
      device::ldmatrix_x2(b, stage + up_row(warp, n, half, lane));
#pragma unroll
      for (int m = 0; m < kTokenFragments; ++m) {
        device::mma_m16n8k16<Element>(sums.value[m][n], a[m], b);
      }
    }
  }
}

/// The steps of the low rank follow those of W in one pipeline. Every step commits one group, an
/// empty one past the end, so that the group of the current step is always the same number back.
template <typename Element>
__device__ void multiply(const Params<Element>& params, const Corner<Element>& corner,
                         std::uint32_t shared, int warp, int lane, Accumulators& sums) {
  const int sparse_steps = (params.channels + kTileChannels - 1) / kTileChannels;
  const int steps = sparse_steps + (params.rank + kRankStep - 1) / kRankStep;
  const auto load = [&](int step, std::uint32_t stage) {
    if (step < sparse_steps) {
      load_operand(params, corner, step, stage);
      load_weight(params, corner, step, stage);
    } else if (step < steps) {
      load_low_rank(params, corner, step - sparse_steps, stage);
    }
    device::cp_async_commit();
  };

  for (int step = 0; step < kStages - 1; ++step) load(step, shared + step * kStageBytes);
  int read = 0;
  int write = kStages - 1;
  for (int step = 0; step < steps; ++step) {
    device::cp_async_wait<kStages - 2>();
    __syncthreads();  // all see the step's copies, and have left the stage that is written next
    load(step + kStages - 1, shared + write * kStageBytes);
    const std::uint32_t stage = shared + read * kStageBytes;
    if (step < sparse_steps) {
      multiply_sparse<Element>(stage, warp, lane, sums);
    } else {
      multiply_low_rank<Element>(stage, warp, lane, sums);
    }
    read = read + 1 == kStages ? 0 : read + 1;
    write = write + 1 == kStages ? 0 : write + 1;
  }
}

/// Fragments to rows, for accesses of 16 bytes. The staging area is the warp's own.
__device__ void stage_sums(const Accumulators& sums, std::byte* staging, int lane) {
#pragma unroll
  for (int m = 0; m < kTokenFragments; ++m) {
#pragma unroll
    for (int n = 0; n < kOutputFragments; ++n) {
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        const Place at = accumulator_pair(m, n, pair, lane);
        const float* const sum = &sums.value[m][n][2 * pair];
        *reinterpret_cast<float2*>(staging + staging_offset(at.row, at.column)) = {sum[0], sum[1]};
      }
    }
  }
  __syncwarp();
}

/// `corner` is the warp's.
template <typename Element>
__device__ void finish(const Params<Element>& params, const Corner<Element>& corner,
                       const std::byte* staging, int lane) {
  const Output<Element>& of = *corner.of;
  const int column = corner.output + finished_by(0, lane).column;  // the same in every pass
  if (column >= of.epilogue.outputs) return;
  float2 bias[4];
  for (int i = 0; i < 4; ++i) bias[i] = epilogue_bias<Element>(of.epilogue, column + 2 * i);

#pragma unroll 2
  for (int pass = 0; pass < kPasses; ++pass) {
    const Place at = finished_by(pass, lane);
    const int row = corner.token + at.row;
    if (row >= params.tokens) return;
    float2 acc[4];
    for (int i = 0; i < 2; ++i) {
      const float4 sums =
          *reinterpret_cast<const float4*>(staging + staging_offset(at.row, at.column + 4 * i));
      acc[2 * i] = {sums.x, sums.y};
      acc[2 * i + 1] = {sums.z, sums.w};
    }
    const uint4 result = epilogue_eight<Element>(
        acc, of.epilogue.activation, epilogue_row<Element>(of.epilogue, row), column, bias);
    *reinterpret_cast<uint4*>(of.y + row * of.y_stride + column) = result;
  }
}

template <typename Element>
__global__ void __launch_bounds__(kThreads, 2)
    product24_kernel(const __grid_constant__ Params<Element> params) {
  extern __shared__ __align__(128) std::byte shared[];
  const Corner<Element> corner =
      corner_of(params, tile_of(blockIdx.x, params.token_tiles, params.output_tiles));
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;

  Accumulators sums{};
  multiply(params, corner, device::shared_address(shared), warp, lane, sums);
  __syncthreads();  // the staging areas lie where other warps may still read the last stage

  std::byte* const staging = shared + warp * kStagingBytes;
  stage_sums(sums, staging, lane);
  const Corner<Element> own{corner.token + first_token(warp), corner.of,
                            corner.output + first_output(warp)};
  finish(params, own, staging, lane);
}

int ceil_div(std::int64_t value, std::int64_t divisor) {
  return static_cast<int>((value + divisor - 1) / divisor);
}

template <typename Element>
Params<Element> params_of(const gpu::PackedInput& packed, std::span<const Product24> products) {
  using Bits = typename Element::Bits;
  Params<Element> params{.operand = static_cast<const std::byte*>(packed.operand),
                         .low = static_cast<const Bits*>(packed.low.data),
                         .low_stride = packed.low.row_stride,
                         .outputs = {},
                         .output_count = static_cast<int>(products.size()),
                         .tokens = static_cast<int>(packed.tokens),
                         .channels = static_cast<int>(packed.channels),
                         .rank = static_cast<int>(products.front().up.columns),
                         .token_tiles = ceil_div(packed.tokens, kTileTokens),
                         .output_tiles = 0};
  for (std::size_t i = 0; i < products.size(); ++i) {
    const Product24& product = products[i];
    params.outputs[i] = {.weight = static_cast<const Bits*>(product.weight.data),
                         .weight_stride = product.weight.row_stride,
                         .up = static_cast<const Bits*>(product.up.data),
                         .up_stride = product.up.row_stride,
                         .y = static_cast<Bits*>(product.y.data),
                         .y_stride = product.y.row_stride,
                         .epilogue = epilogue_params(packed, product),
                         .first_tile = params.output_tiles,
                         .low_column = static_cast<int>(product.low_column)};
    params.output_tiles += ceil_div(product.weight.rows, kTileOutputs);
  }
  return params;
}

template <typename Element>
cudaError_t launch(const gpu::PackedInput& packed, std::span<const Product24> products, int index,
                   cudaStream_t stream) {
  const auto kernel = product24_kernel<Element>;
  const cudaError_t status = device::allow_shared_memory<Element>(kernel, kSharedBytes, index);
  if (status != cudaSuccess) return status;
  const Params<Element> params = params_of<Element>(packed, products);
  const int blocks = params.token_tiles * params.output_tiles;
  kernel<<<static_cast<unsigned>(blocks), kThreads, kSharedBytes, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace
}  // namespace sm80

cudaError_t launch_product24_sm80(const gpu::PackedInput& packed,
                                  std::span<const Product24> products,
                                  const gpu::DeviceTraits& device, cudaStream_t stream) {
  const auto launch = packed.dtype == DType::bf16 ? sm80::launch<Bf16> : sm80::launch<F16>;
  return launch(packed, products, device.index, stream);
}

}  // namespace rtlynx
