// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/pack24.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/error.h"
#include "kernels/check.h"
#include "kernels/device/element.h"
#include "kernels/pack/code_factors.h"
#include "kernels/pack/workspace.h"
#include "kernels/spec/arguments.h"
#include "kernels/spec/matrix.h"
#include "rtlynx/operand24.h"

namespace rtlynx::pack {
namespace {

using gpu::check_pointer;

constexpr std::string_view kOp = "gpu::pack24";

/// 16-byte accesses, of 16 channels, want rows that begin on them.
void check_rows(std::string_view name, ConstMatrixView matrix) {
  if (matrix.rows == 0 || matrix.columns == 0) return;
  if (matrix.row_stride % kChannelMultiple != 0) {
    fail(kOp, "a row stride of " + std::string(name) + " divisible by 16",
         std::to_string(matrix.row_stride));
  }
  check_pointer(kOp, name, matrix.data);
}

void check_input(const Pack24& input) {
  check_pack24(kOp, input);
  require(input.x.dtype == DType::bf16 || input.x.dtype == DType::f16, kOp, "X of bf16 or f16",
          name_of(input.x.dtype));
  if (std::max(input.x.rows, channels_of(input)) > kMaxSize) {
    fail(kOp, "at most 2^30 tokens and channels", describe("X", input.x));
  }
  check_rows("X", input.x);
  check_rows("tail", input.tail);
  check_rows("up", input.up);
  check_rows("modulation_scale", input.modulation_scale);
  check_rows("modulation_shift", input.modulation_shift);
  check_rows("down", input.down);
  check_pointer(kOp, "moments", input.moments, /*optional=*/true);
  check_pointer(kOp, "weight", input.weight, /*optional=*/true);
  check_pointer(kOp, "transform", input.transform, /*optional=*/true);
  require(input.down.rows % kRankMultiple == 0 && input.down.rows <= kMaxLowColumns, kOp,
          "at most 256 rows of down, a multiple of 16", std::to_string(input.down.rows));
}

void check_packed(const Pack24& input, const gpu::PackedInput& packed) {
  const std::int64_t tokens = input.x.rows, channels = channels_of(input);
  if (packed.dtype != input.x.dtype || packed.tokens != tokens || packed.channels != channels) {
    fail(kOp, "a packed input " + describe("of", {nullptr, input.x.dtype, tokens, channels, 0}),
         describe("one of", {nullptr, packed.dtype, packed.tokens, packed.channels, 0}));
  }
  const OperandWidth width = input.code_factor == nullptr ? OperandWidth::k16 : OperandWidth::k8;
  require(packed.width == width, kOp, "values of 8 bits with code factors, else of 16",
          std::to_string(static_cast<int>(packed.width)));
  check_pointer(kOp, "operand", packed.operand);
  check_pointer(kOp, "scale", packed.scale);
  if (input.down.rows == 0) return;
  check_matrix(kOp, "low", packed.low, tokens, input.down.rows, input.x.dtype);
  if (packed.low.row_stride % 8 != 0) {
    fail(kOp, "a row stride of low divisible by 8", std::to_string(packed.low.row_stride));
  }
  check_pointer(kOp, "low", packed.low.data);
}

/// Tiles of 64 channels, as many as whole packed tiles have.
int tiles_across(int channels, OperandWidth width) {
  const int tile_channels = packed_tile_channels(width);
  return (channels + tile_channels - 1) / tile_channels * (tile_channels / kPackedTileChannels);
}

Params params_of(const Pack24& input, const gpu::PackedInput& packed, void* z) {
  const auto data_of = [](ConstMatrixView matrix) {
    return matrix.rows > 0 ? matrix.data : nullptr;
  };
  const int tokens = static_cast<int>(input.x.rows);
  const int channels = static_cast<int>(channels_of(input));
  const std::int64_t image = input.image_tokens > 0 ? input.image_tokens : tokens;
  return {.x = input.x.data,
          .x_stride = input.x.row_stride,
          .tail = data_of(input.tail),
          .tail_stride = input.tail.row_stride,
          // Without a tail, whatever lies beyond the channels is X's.
          .tail_start = input.tail.rows > 0 ? static_cast<int>(input.x.columns)
                                            : std::numeric_limits<int>::max(),
          .tokens = tokens,
          .channels = channels,
          .tiles = tiles_across(channels, packed.width),
          .producer = input.producer,
          .up = data_of(input.up),
          .up_stride = input.up.row_stride,
          .moments = reinterpret_cast<const float2*>(input.moments),
          .weight = input.weight,
          .modulation_scale = data_of(input.modulation_scale),
          .scale_stride = input.modulation_scale.row_stride,
          .modulation_shift = data_of(input.modulation_shift),
          .shift_stride = input.modulation_shift.row_stride,
          .image_tokens = static_cast<unsigned>(std::clamp<std::int64_t>(image, 1, tokens)),
          .transform = input.transform,
          .transform_block = input.transform_block,
          .operand = static_cast<char*>(packed.operand),
          .tile_stride = (input.x.rows + kPackedTileTokens - 1) / kPackedTileTokens *
                         std::int64_t{packed_tile_bytes(packed.width)},
          .restores_norm = input.restores_norm,
          .code_factor = input.code_factor,
          .weight_unit = input.weight_unit,
          .scale = packed.scale,
          .down = data_of(input.down),
          .down_stride = input.down.row_stride,
          .low = packed.low.data,
          .low_stride = packed.low.row_stride,
          .low_columns = static_cast<int>(input.down.rows),
          .z = z};
}

/// Blocks of 16 channels are for the portable kernel.
bool runs_on_hopper(Kernel kernel, const Pack24& input, const gpu::DeviceTraits& device) {
  return kernel == Kernel::fastest && device.compute_capability == 90 &&
         (input.transform == nullptr || input.transform_block % kPackedTileChannels == 0);
}

void check_workspace(const Pack24& input, const gpu::Workspace& workspace,
                     const gpu::DeviceTraits& device) {
  const std::size_t needed = gpu::pack24_workspace_bytes(static_cast<int>(input.down.rows), device);
  check_pointer(kOp, "workspace", workspace.data);
  if (workspace.bytes < needed) {
    fail(kOp, "a workspace of " + std::to_string(needed) + " bytes",
         std::to_string(workspace.bytes));
  }
}

template <typename Element>
cudaError_t launch_hopper(const Params& params, const Launch& launch) {
  switch (params.producer) {
    case Producer::none:
      return sm90::launch_none<Element>(params, launch);
    case Producer::gelu:
      return sm90::launch_gelu<Element>(params, launch);
    case Producer::swiglu:
      return sm90::launch_swiglu<Element>(params, launch);
    case Producer::norm:
      return sm90::launch_norm<Element>(params, launch);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

void pack24_by(Kernel kernel, const Pack24& input, const gpu::PackedInput& packed,
               const gpu::Workspace& workspace, cudaStream_t stream, void* z) {
  check_input(input);
  if (input.x.rows == 0 || channels_of(input) == 0) return;
  check_packed(input, packed);
  const gpu::DeviceTraits device = gpu::current_device();
  require(device.compute_capability >= kLeastComputeCapability, kOp,
          "a GPU of compute capability 8.0 or later", std::to_string(device.compute_capability));
  const Params params = params_of(input, packed, z);
  const Launch launch{workspace.data, device, stream};
  const bool bf16 = input.x.dtype == DType::bf16;
  cudaError_t status = cudaSuccess;
  if (runs_on_hopper(kernel, input, device)) {
    check_workspace(input, workspace, device);
    status = bf16 ? launch_hopper<Bf16>(params, launch) : launch_hopper<F16>(params, launch);
  } else {
    require(input.code_factor == nullptr, kOp,
            "a GPU of compute capability 9.0 and a transform of 64 or 128 channels for e4m3",
            "one of " + std::to_string(device.compute_capability / 10) + "." +
                std::to_string(device.compute_capability % 10) + ", a transform of " +
                std::to_string(input.transform_block));
    status = bf16 ? sm80::launch_bf16(params, launch) : sm80::launch_f16(params, launch);
  }
  gpu::check(status, kOp);
}

}  // namespace rtlynx::pack

namespace rtlynx::gpu {

std::size_t pack24_workspace_bytes(int low_columns, const DeviceTraits& device) {
  if (device.compute_capability != 90) return 0;
  return pack::Workspace::bytes(device.multiprocessors, low_columns);
}

void pack24(const Pack24& input, const PackedInput& packed, const Workspace& workspace,
            cudaStream_t stream) {
  pack::pack24_by(pack::Kernel::fastest, input, packed, workspace, stream, nullptr);
}

void code_factors(const Pack24& input, float transform_gain, float* factors, cudaStream_t stream) {
  constexpr std::string_view kOp = "gpu::code_factors";
  pack::check_input(input);
  check_positive(kOp, "transform gain", transform_gain);
  if (input.x.rows == 0 || channels_of(input) == 0) return;
  check_pointer(kOp, "factors", factors);
  check_pointer(kOp, "limit", input.limit, /*optional=*/true);
  check_pointer(kOp, "tail_limit", input.tail_limit, /*optional=*/true);
  const bool transforms = input.transform != nullptr;
  constexpr int kVectorChannels = 8;
  const int vectors_of_x = static_cast<int>(input.x.columns) / kVectorChannels;
  const int vectors_of_tail = static_cast<int>(input.tail.columns) / kVectorChannels;
  const pack::FactorParams params{
      .input = pack::params_of(input, {}, nullptr),
      .spread = transforms ? std::sqrt(static_cast<float>(input.transform_block)) : 1.0f,
      .gain = transforms ? transform_gain : 1.0f,
      .factors = factors,
      .limit = input.limit,
      .tail_limit = input.tail_limit,
      .first_read = input.limit != nullptr ? vectors_of_x : 0,
      .end_read = input.tail_limit != nullptr ? vectors_of_x : vectors_of_x + vectors_of_tail};
  check(
      pack::launch_code_factors(input.x.dtype, params, current_device().compute_capability, stream),
      kOp);
}

}  // namespace rtlynx::gpu
