// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/device/mma.cuh"
#include "kernels/device/shared.cuh"
#include "kernels/gemm/epilogue.cuh"
#include "kernels/gemm/sm80/launch.h"
#include "kernels/gemm/sm80/layout.h"

namespace rtlynx {
namespace sm80 {
namespace {

template <typename Element>
struct Params {
  using Bits = typename Element::Bits;
  const std::byte* operand;  // [ceil(K/64)][ceil(M/64)] tiles
  const Bits* weight;        // [N, K]
  const Bits* low;           // [M, segments * R]
  const Bits* up;            // [N, R]
  Bits* y;                   // [M, N]
  int tokens;
  int outputs;
  int channels;
  int rank;
  int segments;
  std::int64_t segment_ends[gpu::kMaxSegments];
  int token_tiles;
  int output_tiles;
  EpilogueParams epilogue;
};

/// First token and first output of the block's tile.
struct Corner {
  int token;
  int output;
};

struct Accumulators {
  float value[kTokenFragments][kOutputFragments][4];
};

template <typename Element>
__device__ int segment_of(const Params<Element>& params, int output) {
  int segment = 0;
  for (int i = 0; i + 1 < params.segments; ++i) segment += output >= params.segment_ends[i];
  return segment;
}

/// Tokens of the second packed tile may not exist; then the first one comes twice, and what it
/// gives is not stored.
template <typename Element>
__device__ void load_operand(const Params<Element>& params, Corner corner, int step,
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
__device__ void load_weight(const Params<Element>& params, Corner corner, int step,
                            std::uint32_t stage) {
#pragma unroll
  for (int i = 0; i < kWeightCopies; ++i) {
    const ChunkPlace at = weight_copy(threadIdx.x, i);
    const int output = corner.output + at.row;
    const int channel = step * kTileChannels + at.chunk * kChunkElements;
    device::cp_async_16(
        stage + kOperandBytes + weight_chunk_offset(at.row, at.chunk),
        params.weight + static_cast<std::int64_t>(output) * params.channels + channel,
        output < params.outputs && channel < params.channels);
  }
}

/// Columns kRankStep * step .. of the segment's low and of up, zeros outside.
template <typename Element>
__device__ void load_low_rank(const Params<Element>& params, Corner corner, int step,
                              std::uint32_t stage) {
  const std::int64_t low_columns = params.segments * params.rank;
  const int first_column = segment_of(params, corner.output) * params.rank;
#pragma unroll
  for (int i = 0; i < kLowRankCopies; ++i) {
    const ChunkPlace at = low_rank_copy(threadIdx.x, i);
    const int token = corner.token + at.row;
    const int output = corner.output + at.row;
    const int column = step * kRankStep + at.chunk * kChunkElements;
    const std::uint32_t target = stage + narrow_chunk_offset(at.row, at.chunk);
    device::cp_async_16(target, params.low + token * low_columns + first_column + column,
                        token < params.tokens && column < params.rank);
    device::cp_async_16(target + kOperandBytes,
                        params.up + static_cast<std::int64_t>(output) * params.rank + column,
                        output < params.outputs && column < params.rank);
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
__device__ void multiply(const Params<Element>& params, Corner corner, std::uint32_t shared,
                         int warp, int lane, Accumulators& sums) {
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
__device__ void finish(const Params<Element>& params, Corner corner, const std::byte* staging,
                       int lane) {
  const int column = corner.output + finished_by(0, lane).column;  // the same in every pass
  if (column >= params.outputs) return;
  float2 bias[4];
  for (int i = 0; i < 4; ++i) bias[i] = epilogue_bias(params.epilogue, column + 2 * i);

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
        acc, params.epilogue.activation, epilogue_row<Element>(params.epilogue, row), column, bias);
    *reinterpret_cast<uint4*>(params.y + static_cast<std::int64_t>(row) * params.outputs + column) =
        result;
  }
}

template <typename Element>
__global__ void __launch_bounds__(kThreads, 2)
    gemm24_kernel(const __grid_constant__ Params<Element> params) {
  extern __shared__ __align__(128) std::byte shared[];
  const Tile tile = tile_of(blockIdx.x, params.token_tiles, params.output_tiles);
  const Corner corner{tile.tokens * kTileTokens, tile.outputs * kTileOutputs};
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;

  Accumulators sums{};
  multiply(params, corner, device::shared_address(shared), warp, lane, sums);
  __syncthreads();  // the staging areas lie where other warps may still read the last stage

  std::byte* const staging = shared + warp * kStagingBytes;
  stage_sums(sums, staging, lane);
  finish(params, {corner.token + first_token(warp), corner.output + first_output(warp)}, staging,
         lane);
}

constexpr std::int64_t ceil_div(std::int64_t value, std::int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

bool fits(const gpu::Gemm24Shape& shape) {
  constexpr std::int64_t kLargest = std::numeric_limits<int>::max() - 1024;  // room to round up
  const auto is_size = [](std::int64_t size, std::int64_t divisor) {
    return size >= 1 && size <= kLargest && size % divisor == 0;
  };
  return is_size(shape.tokens, 1) && is_size(shape.outputs, 8) && is_size(shape.channels, 16) &&
         shape.rank >= 0 && shape.rank <= 128 && shape.rank % 16 == 0 &&
         ceil_div(shape.tokens, kTileTokens) * ceil_div(shape.outputs, kTileOutputs) <= kLargest;
}

bool segments_fit(const gpu::Gemm24& problem) {
  if (problem.segments < 1 || problem.segments > gpu::kMaxSegments) return false;
  for (int i = 0; i + 1 < problem.segments; ++i) {
    if (problem.segment_ends[static_cast<std::size_t>(i)] % kTileOutputs != 0) return false;
  }
  return true;
}

template <typename Element>
Params<Element> params_of(const gpu::Gemm24& problem) {
  using Bits = typename Element::Bits;
  const gpu::Gemm24Shape& shape = problem.shape;
  Params<Element> params{
      .operand = static_cast<const std::byte*>(problem.operand),
      .weight = static_cast<const Bits*>(problem.weight),
      .low = static_cast<const Bits*>(problem.low),
      .up = static_cast<const Bits*>(problem.up),
      .y = static_cast<Bits*>(problem.y),
      .tokens = static_cast<int>(shape.tokens),
      .outputs = static_cast<int>(shape.outputs),
      .channels = static_cast<int>(shape.channels),
      .rank = shape.rank,
      .segments = problem.segments,
      .segment_ends = {},
      .token_tiles = static_cast<int>(ceil_div(shape.tokens, kTileTokens)),
      .output_tiles = static_cast<int>(ceil_div(shape.outputs, kTileOutputs)),
      .epilogue = epilogue_params(problem),
  };
  std::copy(problem.segment_ends.begin(), problem.segment_ends.end(), params.segment_ends);
  return params;
}

template <typename Element>
cudaError_t launch(const gpu::Gemm24& problem, cudaStream_t stream) {
  const auto kernel = gemm24_kernel<Element>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (error != cudaSuccess) return error;
  const Params<Element> params = params_of<Element>(problem);
  const int blocks = params.token_tiles * params.output_tiles;
  kernel<<<static_cast<unsigned>(blocks), kThreads, kSharedBytes, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace
}  // namespace sm80

cudaError_t launch_gemm24_sm80(const gpu::Gemm24& problem, cudaStream_t stream) {
  if (problem.sparse != gpu::SparseOperand::activation || !sm80::fits(problem.shape) ||
      !sm80::segments_fit(problem)) {
    return cudaErrorInvalidValue;
  }
  switch (problem.shape.dtype) {
    case DType::f16:
      return sm80::launch<F16>(problem, stream);
    case DType::bf16:
      return sm80::launch<Bf16>(problem, stream);
    case DType::f32:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace rtlynx
