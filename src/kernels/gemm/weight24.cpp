// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/gpu/weight24.h"

#include "kernels/gemm/rules.h"
#include "kernels/gemm/select.h"
#include "kernels/gemm/sm90/launch.h"
#include "kernels/spec/arguments.h"

namespace rtlynx::gpu {
namespace {

constexpr std::string_view kOp = "gpu::weight_product24";

PackedShape check_input(const DenseInput24& input, DType element) {
  require(element == DType::bf16 || element == DType::f16, kOp, "bf16 or f16", name_of(element));
  check_sizes(kOp, input.x.rows, input.x.columns);
  check_rows(kOp, "x", input.x);
  check_rows(kOp, "low", input.low);
  check_pointer(kOp, "scale of the input", input.scale, /*optional=*/true);
  return {.tokens = input.x.rows,
          .channels = input.x.columns,
          .low = input.low,
          .dtype = element,
          .value_dtype = input.x.dtype};
}

void check_product(const PackedShape& input, WeightProduct24 product, std::int64_t rank) {
  check_pointer(kOp, "operand", product.operand);
  product.values.data = product.operand;  // which stands for the values
  check_weight_product24(kOp, input, product);
  check_outputs(kOp, product.values.rows);
  check_pointer(kOp, "scale of the weight", product.scale, /*optional=*/true);
  check_low_and_epilogue(kOp, product, rank);
}

void check_device(const Gemm24Config& config, const DeviceTraits& device) {
  require(device.compute_capability == 90, kOp, "a GPU of compute capability 9.0",
          std::to_string(device.compute_capability));
  if (!is_sm90_weight_config(config)) {
    fail(kOp, "path sm90, a tile of 256x128, a cluster of 1 or 2, a group of 1 or more",
         describe(config) + " in groups of " + std::to_string(config.group_tiles));
  }
}

}  // namespace

void weight_product24(const DenseInput24& input, std::span<const WeightProduct24> products,
                      const Gemm24Config& config, const Workspace& workspace, cudaStream_t stream) {
  const std::int64_t rank = check_count_and_rank(kOp, products);
  const PackedShape shape = check_input(input, products.front().y.dtype);
  for (const WeightProduct24& product : products) check_product(shape, product, rank);
  const DeviceTraits device = current_device();
  check_device(config, device);
  check_workspace(kOp, config, workspace, device);
  check(launch_weight_product24_sm90(input, products, config, workspace.data, device, stream), kOp);
}

}  // namespace rtlynx::gpu
