// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "kernels/device/launch.h"
#include "kernels/device/tensor_map.h"
#include "kernels/gemm/select.h"
#include "kernels/gemm/sm90/kernel.cuh"

/// What the launches of both kinds of product have in common.
namespace rtlynx::sm90 {

inline int ceil_div(std::int64_t value, std::int64_t divisor) {
  return static_cast<int>((value + divisor - 1) / divisor);
}

/// Makes tensor maps one after the other, until one fails.
template <typename T>
class Describer {
 public:
  /// Rows of X or W, whichever is dense.
  void describe_dense(ConstMatrixView matrix, Output& output) {
    describe(matrix, T::kTileDense, T::kStepChannels, output.dense);
  }

  /// The low rank: `sparse` and `dense` have the rows of those operands.
  void describe_low(ConstMatrixView sparse, ConstMatrixView dense, Output& output) {
    describe(sparse, T::kBlockRows, T::kLowStepRank, output.sparse_low);
    describe(dense, T::kTileDense, T::kLowStepRank, output.dense_low);
  }

  void describe_y(MatrixView y, Output& output) {
    describe(y, T::kStoreTokens, T::kStoreOutputs, output.y);
  }

  cudaError_t status() const { return status_; }

 private:
  void describe(ConstMatrixView matrix, int box_rows, int box_columns, CUtensorMap& map) {
    if (status_ != cudaSuccess) return;
    status_ = device::make_tensor_map(
        {.data = matrix.data,
         .dtype = matrix.dtype,
         .axes = {{{.size = matrix.columns, .box = box_columns},
                   {.size = matrix.rows, .stride = matrix.row_stride, .box = box_rows}}}},
        map);
  }

  cudaError_t status_ = cudaSuccess;
};

/// Runs what `params` describes, but for the scheduler and the workspace, which are filled in here.
template <typename T>
cudaError_t run(Params& params, const gpu::Gemm24Config& config, void* memory,
                const gpu::DeviceTraits& traits, cudaStream_t stream) {
  const cudaError_t status =
      device::allow_shared_memory<T>(product24_kernel<T>, T::kUsedBytes, traits.index);
  if (status != cudaSuccess) return status;
  const gpu::Gemm24Workspace workspace(memory, traits.multiprocessors);
  params.flags = workspace.flags();
  params.partials = workspace.partials();
  params.grid.group = config.group_tiles;
  const int low_steps = ceil_div(params.rank, T::kLowStepRank);
  // Whole clusters of CTAs, at most as many as run at once.
  const int largest = gpu::sm90_ctas(traits.multiprocessors, config.cluster);
  const int wanted = ceil_div(params.grid.tiles(), config.cluster) * config.cluster;
  const int ctas = config.stream_k ? largest : std::min(largest, wanted);
  params.scheduler = gpu::Scheduler(params.grid, params.k_steps + low_steps, ctas, config.stream_k);

  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(config.cluster), 1, 1};
  // Starts before the grid that writes the input has ended, reading weights meanwhile.
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch_config{};
  launch_config.gridDim = dim3(static_cast<unsigned>(ctas));
  launch_config.blockDim = dim3(T::kThreads);
  launch_config.dynamicSmemBytes = T::kUsedBytes;
  launch_config.stream = stream;
  launch_config.attrs = attributes;
  launch_config.numAttrs = 2;
  return cudaLaunchKernelEx(&launch_config, product24_kernel<T>, params);
}

}  // namespace rtlynx::sm90
