// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/gpu/product24.h"

#include <algorithm>
#include <string>

#include "kernels/gemm/rules.h"
#include "kernels/gemm/select.h"
#include "kernels/gemm/sm80/launch.h"
#include "kernels/gemm/sm90/launch.h"
#include "kernels/spec/arguments.h"

namespace rtlynx::gpu {
namespace {

constexpr std::string_view kOp = "gpu::product24";

void check_packed(const PackedInput& packed) {
  require(packed.dtype == DType::bf16 || packed.dtype == DType::f16, kOp, "bf16 or f16",
          name_of(packed.dtype));
  check_sizes(kOp, packed.tokens, packed.channels);
  check_pointer(kOp, "operand", packed.operand);
  check_pointer(kOp, "scale", packed.scale);
  check_rows(kOp, "low", packed.low);
  require(packed.width == OperandWidth::k16 || packed.width == OperandWidth::k8, kOp,
          "values of 16 or 8 bits", std::to_string(static_cast<int>(packed.width)));
}

DType value_dtype(const PackedInput& packed) {
  return packed.width == OperandWidth::k8 ? DType::e4m3 : packed.dtype;
}

void check_product(const PackedInput& packed, const Product24& product, std::int64_t rank) {
  check_product24(kOp,
                  {.tokens = packed.tokens,
                   .channels = packed.channels,
                   .low = packed.low,
                   .dtype = packed.dtype,
                   .value_dtype = value_dtype(packed)},
                  product);
  check_outputs(kOp, product.weight.rows);
  check_rows(kOp, "weight", product.weight);
  check_low_and_epilogue(kOp, product, rank);
  check_pointer(kOp, "largest", product.largest, /*optional=*/true);
}

void check_device(const PackedInput& packed, std::span<const Product24> products,
                  const Gemm24Config& config, const DeviceTraits& device) {
  require(packed.width == OperandWidth::k16 || config.path == Gemm24Config::Path::sm90, kOp,
          "path sm90 for e4m3", name_of(config.path));
  const bool wants_largest = std::any_of(products.begin(), products.end(), [](const auto& product) {
    return product.largest != nullptr;
  });
  require(!wants_largest || config.path == Gemm24Config::Path::sm90, kOp,
          "path sm90 for the largest of each token", name_of(config.path));
  if (config.path == Gemm24Config::Path::sm90) {
    require(device.compute_capability == 90, kOp,
            "a GPU of compute capability 9.0 for the sm90 path",
            std::to_string(device.compute_capability));
    if (!is_sm90_config(config)) {
      fail(kOp, "a tile of 128x256, a cluster of 1 or 2, a group of 1 or more",
           describe(config) + " in groups of " + std::to_string(config.group_tiles));
    }
  } else if (config.path == Gemm24Config::Path::sm80) {
    require(device.compute_capability >= kLeastComputeCapability, kOp,
            "a GPU of compute capability 8.0 or later for the sm80 path",
            std::to_string(device.compute_capability));
  } else {
    fail(kOp, "path sm80 or sm90: the caller runs dense products", name_of(config.path));
  }
}

}  // namespace

void product24(const PackedInput& packed, std::span<const Product24> products,
               const Gemm24Config& config, const Workspace& workspace, cudaStream_t stream) {
  check_packed(packed);
  const std::int64_t rank = check_count_and_rank(kOp, products);
  for (const Product24& product : products) check_product(packed, product, rank);
  const DeviceTraits device = current_device();
  check_device(packed, products, config, device);
  check_workspace(kOp, config, workspace, device);
  const cudaError_t status =
      config.path == Gemm24Config::Path::sm90
          ? launch_product24_sm90(packed, products, config, workspace.data, device, stream)
          : launch_product24_sm80(packed, products, device, stream);
  check(status, kOp);
}

}  // namespace rtlynx::gpu
