// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/sm90/launch.h"
#include "kernels/gemm/sm90/run.cuh"

namespace rtlynx {
namespace sm90 {
namespace {

template <typename T>
cudaError_t launch(const gpu::PackedInput& packed, std::span<const Product24> products,
                   const gpu::Gemm24Config& config, void* memory, const gpu::DeviceTraits& traits,
                   cudaStream_t stream) {
  Params params{.output_count = static_cast<int>(products.size()),
                .k_steps = ceil_div(packed.channels, T::kStepChannels),
                .rank = static_cast<int>(products.front().up.columns),
                .grid = {.sparse_tiles = ceil_div(packed.tokens, T::kTileSparse)},
                .scheduler = gpu::Scheduler({}, 0, 1, false)};
  Describer<T> maps;
  for (std::size_t i = 0; i < products.size(); ++i) {
    const Product24& product = products[i];
    Output& output = params.outputs[i];
    output.epilogue = epilogue_params(packed, product);
    output.sparse = static_cast<const char*>(packed.operand);
    output.sparse_blocks = ceil_div(packed.tokens, T::kBlockRows);
    output.first_tile = params.grid.dense_tiles;
    output.low_column = static_cast<int>(product.low_column);
    maps.describe_dense(product.weight, output);
    if (params.rank > 0) maps.describe_low(packed.low, product.up, output);
    maps.describe_y(product.y, output);
    params.grid.dense_tiles += ceil_div(product.weight.rows, T::kTileDense);
  }
  if (maps.status() != cudaSuccess) return maps.status();
  return run<T>(params, config, memory, traits, stream);
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
