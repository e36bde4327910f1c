// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/tensor_map.h"
#include "kernels/gemm/sm90/kernel.cuh"
#include "kernels/gemm/sm90/launch.h"
#include "kernels/gemm/workspace.h"

namespace rtlynx {
namespace sm90 {
namespace {

int ceil_div(std::int64_t value, std::int64_t divisor) {
  return static_cast<int>((value + divisor - 1) / divisor);
}

/// The tensor maps of a problem; those of the low rank only if it has one.
template <typename T>
cudaError_t describe_tensors(const gpu::Gemm24& problem, Params& params) {
  const gpu::Gemm24Shape& shape = problem.shape;
  const auto describe = [&](const void* data, std::int64_t rows, std::int64_t columns, int box_rows,
                            int box_columns, CUtensorMap& map) {
    return device::make_tensor_map({.data = data,
                                    .dtype = shape.dtype,
                                    .axes = {{.size = columns, .box = box_columns},
                                             {.size = rows, .stride = columns, .box = box_rows}}},
                                   map);
  };
  cudaError_t status = describe(problem.weight, shape.outputs, shape.channels, T::kTileOutputs,
                                T::kStepChannels, params.weight);
  if (status != cudaSuccess) return status;
  status = describe(problem.y, shape.tokens, shape.outputs, 16, T::kStoreOutputs, params.y);
  if (status != cudaSuccess || shape.rank == 0) return status;
  status =
      describe(problem.up, shape.outputs, shape.rank, T::kTileOutputs, T::kLowStepRank, params.up);
  if (status != cudaSuccess) return status;
  return describe(problem.low, shape.tokens, std::int64_t{problem.segments} * shape.rank,
                  T::kBlockTokens, T::kLowStepRank, params.low);
}

template <typename T>
cudaError_t launch(const gpu::Gemm24& problem, const gpu::Gemm24Config& config, int multiprocessors,
                   cudaStream_t stream) {
  const gpu::Gemm24Shape& shape = problem.shape;
  const gpu::TileGrid grid{ceil_div(shape.tokens, T::kTileTokens),
                           ceil_div(shape.outputs, T::kTileOutputs), config.group_tiles};
  const int k_steps = ceil_div(shape.channels, T::kStepChannels);
  const int low_steps = ceil_div(shape.rank, T::kLowStepRank);
  // Whole clusters of CTAs, at most as many as run at once.
  const int largest = multiprocessors / config.cluster * config.cluster;
  const int wanted = ceil_div(grid.tiles(), config.cluster) * config.cluster;
  const int ctas = config.stream_k ? largest : std::min(largest, wanted);
  const gpu::Gemm24Workspace workspace(problem.workspace, multiprocessors);
  Params params{.operand = static_cast<const char*>(problem.operand),
                .token_blocks = ceil_div(shape.tokens, T::kBlockTokens),
                .k_steps = k_steps,
                .low_steps = low_steps,
                .rank = shape.rank,
                .segments = problem.segments,
                .grid = grid,
                .scheduler = gpu::Scheduler(grid, k_steps + low_steps, ctas, config.stream_k),
                .epilogue = epilogue_params(problem),
                .flags = workspace.flags(),
                .partials = workspace.partials()};
  for (int i = 0; i < problem.segments; ++i) {
    params.segment_ends[i] = ceil_div(problem.segment_ends[i], T::kTileOutputs);
  }
  cudaError_t status = describe_tensors<T>(problem, params);
  if (status != cudaSuccess) return status;

  const auto kernel = gemm24_kernel<T>;
  status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::kUsedBytes);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(config.cluster), 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch_config{};
  launch_config.gridDim = dim3(static_cast<unsigned>(ctas));
  launch_config.blockDim = dim3(T::kThreads);
  launch_config.dynamicSmemBytes = T::kUsedBytes;
  launch_config.stream = stream;
  launch_config.attrs = attributes;
  launch_config.numAttrs = problem.follows_pack ? 2 : 1;
  return cudaLaunchKernelEx(&launch_config, kernel, params);
}

template <typename Element>
cudaError_t launch_element(const gpu::Gemm24& problem, const gpu::Gemm24Config& config,
                           int multiprocessors, cudaStream_t stream) {
  const bool built = config.tile_tokens == gpu::kSm90TileTokens &&
                     config.tile_outputs == gpu::kSm90TileOutputs &&
                     (config.cluster == 1 || config.cluster == 2);
  if (built) return launch<Traits<Element>>(problem, config, multiprocessors, stream);
  return cudaErrorInvalidValue;
}

}  // namespace
}  // namespace sm90

cudaError_t launch_gemm24_sm90(const gpu::Gemm24& problem, const gpu::Gemm24Config& config,
                               int multiprocessors, cudaStream_t stream) {
  const auto launch =
      problem.shape.dtype == DType::bf16 ? sm90::launch_element<Bf16> : sm90::launch_element<F16>;
  return launch(problem, config, multiprocessors, stream);
}

}  // namespace rtlynx
