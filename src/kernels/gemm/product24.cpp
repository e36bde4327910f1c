// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/gpu/product24.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "kernels/check.h"
#include "kernels/gemm/select.h"
#include "kernels/gemm/sm80/launch.h"
#include "kernels/gemm/sm90/launch.h"
#include "kernels/spec/arguments.h"

namespace rtlynx::gpu {
namespace {

constexpr std::string_view kOp = "gpu::product24";

/// TMA and 16-byte accesses want rows that begin on 16 bytes.
void check_rows(std::string_view name, ConstMatrixView matrix) {
  if (matrix.rows == 0 || matrix.columns == 0) return;
  if (matrix.row_stride % 8 != 0) {
    fail(kOp, "a row stride of " + std::string(name) + " divisible by 8",
         std::to_string(matrix.row_stride));
  }
  check_pointer(kOp, name, matrix.data);
}

void check_packed(const PackedInput& packed) {
  require(packed.dtype == DType::bf16 || packed.dtype == DType::f16, kOp, "bf16 or f16",
          name_of(packed.dtype));
  const std::int64_t largest = std::max(packed.tokens, packed.channels);
  if (packed.tokens < 1 || packed.channels < 1 || largest > kMaxSize) {
    fail(kOp, "1 to 2^30 tokens and channels",
         std::to_string(packed.tokens) + " and " + std::to_string(packed.channels));
  }
  require(packed.channels % kChannelMultiple == 0, kOp, "channels K divisible by 16",
          std::to_string(packed.channels));
  check_pointer(kOp, "operand", packed.operand);
  check_pointer(kOp, "scale", packed.scale);
  check_rows("low", packed.low);
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
  const std::int64_t outputs = product.weight.rows;
  if (outputs < 1 || outputs > kMaxSize || outputs % kOutputMultiple != 0) {
    fail(kOp, "outputs N of 1 to 2^30, divisible by 8", std::to_string(outputs));
  }
  require(product.up.columns == rank, kOp, "one rank for all products", "several");
  require(product.low_column % kRankMultiple == 0, kOp, "a first column of low divisible by 16",
          std::to_string(product.low_column));
  check_rows("weight", product.weight);
  if (product.weight.dtype == DType::e4m3 && product.weight.row_stride % 16 != 0) {
    fail(kOp, "a row stride of an e4m3 weight divisible by 16",
         std::to_string(product.weight.row_stride));
  }
  check_rows("up", product.up);
  check_rows("gate", product.gate);
  check_rows("residual", product.residual);
  check_rows("y", product.y);
  check_pointer(kOp, "bias", product.bias, /*optional=*/true);
  check_pointer(kOp, "largest", product.largest, /*optional=*/true);
}

void check_products(const PackedInput& packed, std::span<const Product24> products) {
  if (products.empty() || products.size() > kMaxProducts) {
    fail(kOp, "1 to " + std::to_string(kMaxProducts) + " products",
         std::to_string(products.size()));
  }
  const std::int64_t rank = products.front().up.columns;
  require(rank % kRankMultiple == 0 && rank <= kMaxRank, kOp, "a rank of 0 to 128, divisible by 16",
          std::to_string(rank));
  for (const Product24& product : products) check_product(packed, product, rank);
}

void check_workspace(const Gemm24Config& config, const Workspace& workspace,
                     const DeviceTraits& device) {
  const std::size_t needed = product24_workspace_bytes(config, device);
  if (needed == 0) return;
  check_pointer(kOp, "workspace", workspace.data);
  if (workspace.bytes < needed) {
    fail(kOp, "a workspace of " + std::to_string(needed) + " bytes",
         std::to_string(workspace.bytes));
  }
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
  check_products(packed, products);
  const DeviceTraits device = current_device();
  check_device(packed, products, config, device);
  check_workspace(config, workspace, device);
  const cudaError_t status =
      config.path == Gemm24Config::Path::sm90
          ? launch_product24_sm90(packed, products, config, workspace.data, device, stream)
          : launch_product24_sm80(packed, products, device, stream);
  check(status, kOp);
}

}  // namespace rtlynx::gpu
