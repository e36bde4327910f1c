// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/device/launch.h"
#include "kernels/device/tensor_map.h"
#include "kernels/gemm/select.h"
#include "kernels/gemm/sm90/kernel.cuh"
#include "kernels/gemm/sm90/launch.h"
#include "kernels/gemm/workspace.h"

namespace rtlynx {
namespace sm90 {
namespace {

int ceil_div(std::int64_t value, std::int64_t divisor) {
  return static_cast<int>((value + divisor - 1) / divisor);
}

/// Makes tensor maps one after the other, until one fails.
template <typename T>
class Describer {
 public:
  void describe(ConstMatrixView matrix, int box_rows, int box_columns, CUtensorMap& map) {
    if (status_ != cudaSuccess) return;
    status_ = device::make_tensor_map(
        {.data = matrix.data,
         .dtype = matrix.dtype,
         .axes = {{.size = matrix.columns, .box = box_columns},
                  {.size = matrix.rows, .stride = matrix.row_stride, .box = box_rows}}},
        map);
  }

  void describe(const Product24& product, Output& output) {
    describe(product.weight, T::kTileOutputs, T::kStepChannels, output.weight);
    describe(product.y, 16, T::kStoreOutputs, output.y);
    if (product.up.columns > 0) {
      describe(product.up, T::kTileOutputs, T::kLowStepRank, output.up);
    }
  }

  cudaError_t status() const { return status_; }

 private:
  cudaError_t status_ = cudaSuccess;
};

template <typename T>
cudaError_t describe_outputs(const gpu::PackedInput& packed, std::span<const Product24> products,
                             Params& params) {
  Describer<T> maps;
  int tiles = 0;
  for (const Product24& product : products) {
    Output& output = params.outputs[params.output_count++];
    output.epilogue = epilogue_params(packed, product);
    output.first_tile = tiles;
    output.low_column = static_cast<int>(product.low_column);
    maps.describe(product, output);
    tiles += ceil_div(product.weight.rows, T::kTileOutputs);
  }
  if (products.front().up.columns > 0) {
    maps.describe(packed.low, T::kBlockTokens, T::kLowStepRank, params.low);
  }
  params.grid.output_tiles = tiles;
  return maps.status();
}

template <typename T>
cudaError_t launch(const gpu::PackedInput& packed, std::span<const Product24> products,
                   const gpu::Gemm24Config& config, void* memory, const gpu::DeviceTraits& traits,
                   cudaStream_t stream) {
  cudaError_t status =
      device::allow_shared_memory<T>(product24_kernel<T>, T::kUsedBytes, traits.index);
  if (status != cudaSuccess) return status;
  const gpu::Gemm24Workspace workspace(memory, traits.multiprocessors);
  Params params{
      .output_count = 0,
      .operand = static_cast<const char*>(packed.operand),
      .token_blocks = ceil_div(packed.tokens, T::kBlockTokens),
      .k_steps = ceil_div(packed.channels, T::kStepChannels),
      .rank = static_cast<int>(products.front().up.columns),
      .grid = {.token_tiles = ceil_div(packed.tokens, T::kTileTokens), .group = config.group_tiles},
      .scheduler = gpu::Scheduler({}, 0, 1, false),
      .flags = workspace.flags(),
      .partials = workspace.partials()};
  status = describe_outputs<T>(packed, products, params);
  if (status != cudaSuccess) return status;
  const int low_steps = ceil_div(params.rank, T::kLowStepRank);
  // Whole clusters of CTAs, at most as many as run at once.
  const int largest = gpu::sm90_ctas(traits.multiprocessors, config.cluster);
  const int wanted = ceil_div(params.grid.tiles(), config.cluster) * config.cluster;
  const int ctas = config.stream_k ? largest : std::min(largest, wanted);
  params.scheduler = gpu::Scheduler(params.grid, params.k_steps + low_steps, ctas, config.stream_k);

  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(config.cluster), 1, 1};
  // Starts before the pack has ended, reading weights meanwhile.
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

}  // namespace
}  // namespace sm90

cudaError_t launch_product24_sm90(const gpu::PackedInput& packed,
                                  std::span<const Product24> products,
                                  const gpu::Gemm24Config& config, void* workspace,
                                  const gpu::DeviceTraits& device, cudaStream_t stream) {
  if (!gpu::is_sm90_config(config)) return cudaErrorInvalidValue;
  const bool bf16 = packed.dtype == DType::bf16;
  const auto run = [&](auto launch) {
    return launch(packed, products, config, workspace, device, stream);
  };
  if (packed.width == OperandWidth::k8) {
    return run(bf16 ? sm90::launch<sm90::Traits<Bf16, E4m3>>
                    : sm90::launch<sm90::Traits<F16, E4m3>>);
  }
  return run(bf16 ? sm90::launch<sm90::Traits<Bf16, Bf16>> : sm90::launch<sm90::Traits<F16, F16>>);
}

}  // namespace rtlynx
