// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/sm90/launch.h"
#include "kernels/gemm/sm90/run.cuh"

namespace rtlynx {
namespace sm90 {
namespace {

template <typename T>
cudaError_t launch_weight(const DenseInput24& input, std::span<const WeightProduct24> products,
                          const gpu::Gemm24Config& config, void* memory,
                          const gpu::DeviceTraits& traits, cudaStream_t stream) {
  const std::int64_t tokens = input.x.rows;
  Params params{.output_count = static_cast<int>(products.size()),
                .k_steps = ceil_div(input.x.columns, T::kStepChannels),
                .rank = static_cast<int>(products.front().up.columns),
                .grid = {.dense_tiles = ceil_div(tokens, T::kTileDense)},
                .scheduler = gpu::Scheduler({}, 0, 1, false)};
  Describer<T> maps;
  for (std::size_t i = 0; i < products.size(); ++i) {
    const WeightProduct24& product = products[i];
    const std::int64_t outputs = product.values.rows;
    Output& output = params.outputs[i];
    output.epilogue = epilogue_params(input, product);
    output.sparse = static_cast<const char*>(product.operand);
    output.sparse_blocks = ceil_div(outputs, T::kBlockRows);
    output.first_tile = params.grid.sparse_tiles;
    output.low_column = static_cast<int>(product.low_column);
    maps.describe_dense(input.x, output);
    if (params.rank > 0) maps.describe_low(product.up, input.low, output);
    maps.describe_y(product.y, output);
    params.grid.sparse_tiles += ceil_div(outputs, T::kTileSparse);
  }
  if (maps.status() != cudaSuccess) return maps.status();
  return run<T>(params, config, memory, traits, stream);
}

}  // namespace
}  // namespace sm90

cudaError_t launch_weight_product24_sm90(const DenseInput24& input,
                                         std::span<const WeightProduct24> products,
                                         const gpu::Gemm24Config& config, void* workspace,
                                         const gpu::DeviceTraits& device, cudaStream_t stream) {
  constexpr auto kOutputs = sm90::SparseRows::outputs;
  const bool bf16 = products.front().y.dtype == DType::bf16;
  const auto run = [&](auto launch) {
    return launch(input, products, config, workspace, device, stream);
  };
  if (input.x.dtype == DType::e4m3) {
    return run(bf16 ? sm90::launch_weight<sm90::Traits<Bf16, E4m3, kOutputs>>
                    : sm90::launch_weight<sm90::Traits<F16, E4m3, kOutputs>>);
  }
  return run(bf16 ? sm90::launch_weight<sm90::Traits<Bf16, Bf16, kOutputs>>
                  : sm90::launch_weight<sm90::Traits<F16, F16, kOutputs>>);
}

}  // namespace rtlynx
