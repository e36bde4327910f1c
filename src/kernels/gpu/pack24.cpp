// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/gpu/pack24.h"

#include <algorithm>
#include <limits>
#include <string>

#include "base/error.h"
#include "kernels/cpu/matrix.h"
#include "kernels/gpu/check.h"
#include "kernels/pack/pack24.h"
#include "kernels/pack/unpack24.h"
#include "kernels/pack/workspace.h"
#include "rtlynx/operand24.h"

namespace rtlynx::gpu {
namespace {

constexpr std::string_view kPack = "gpu::pack24";
constexpr int kLargestRank = 256;

void check_input(const Pack24& problem) {
  const ConstMatrixView& x = problem.x;
  check_matrix(kPack, "X", x);
  require(x.dtype == DType::bf16 || x.dtype == DType::f16, kPack, "X of bf16 or f16",
          name_of(x.dtype));
  check_channels(kPack, x.columns, 16);
  require(x.row_stride % 16 == 0, kPack, "a row stride of X divisible by 16",
          std::to_string(x.row_stride));
  require(x.rows <= std::numeric_limits<int>::max() / 2 &&
              x.columns <= std::numeric_limits<int>::max() / 2,
          kPack, "at most 2^30 tokens and channels", describe("X", x));
  check_pointer(kPack, "X", x.data);
  check_pointer(kPack, "operand", problem.operand);
  check_pointer(kPack, "scale", problem.scale, /*optional=*/true);
  check_pointer(kPack, "selected_from", problem.selected_from, /*optional=*/true);
}

void check_low_rank(const Pack24& problem) {
  const ConstMatrixView& down = problem.down;
  if (down.rows == 0) return;
  check_matrix(kPack, "down", down, down.rows, problem.x.columns, problem.x.dtype);
  require(down.rows % 16 == 0 && down.rows <= kLargestRank, kPack,
          "a rank divisible by 16, at most 256", std::to_string(down.rows));
  require(down.row_stride == down.columns, kPack, "contiguous down",
          "a row stride of " + std::to_string(down.row_stride));
  check_pointer(kPack, "down", down.data);
  check_pointer(kPack, "low", problem.low);
}

void check_producer(const Pack24& problem) {
  if (problem.producer > Producer::rms_norm) {
    fail(kPack, "a known producer", std::to_string(static_cast<int>(problem.producer)));
  }
  if (problem.producer == Producer::swiglu) check_pointer(kPack, "up", problem.up);
  if (!pack::is_norm(problem.producer)) return;
  check_pointer(kPack, "multiplier", problem.multiplier, /*optional=*/true);
  check_pointer(kPack, "shift", problem.shift, /*optional=*/true);
  require(problem.image_tokens >= 0, kPack, "image_tokens of 0 or more",
          std::to_string(problem.image_tokens));
}

void check_transform(const Pack24& problem) {
  if (problem.transform == nullptr) return;
  const int block = problem.transform_block;
  require(block == 16 || block == 64 || block == 128, kPack, "a transform block of 16, 64 or 128",
          std::to_string(block));
  require(problem.x.columns % block == 0, kPack, "channels divisible by the transform's block",
          std::to_string(problem.x.columns) + " and " + std::to_string(block));
  check_pointer(kPack, "transform", problem.transform);
}

/// The kernel for Hopper shares a token's channels among CTAs.
void check_workspace(const Pack24& problem, const DeviceTraits& device) {
  const int rank = static_cast<int>(problem.down.rows);
  const std::size_t needed = pack24_workspace_bytes(rank, device);
  check_pointer(kPack, "workspace", problem.workspace);
  require(problem.workspace_bytes >= needed, kPack,
          "a workspace of " + std::to_string(needed) + " bytes",
          std::to_string(problem.workspace_bytes));
}

pack::Params params_of(const Pack24& problem, const DeviceTraits& device) {
  const int tokens = static_cast<int>(problem.x.rows);
  const int channels = static_cast<int>(problem.x.columns);
  const std::int64_t image = problem.image_tokens > 0 ? problem.image_tokens : tokens;
  return {.x = problem.x.data,
          .row_stride = problem.x.row_stride,
          .tokens = tokens,
          .channels = channels,
          .tiles = (channels + kPackedTileChannels - 1) / kPackedTileChannels,
          .operand = static_cast<char*>(problem.operand),
          .tile_stride = (problem.x.rows + kPackedTileTokens - 1) / kPackedTileTokens *
                         std::int64_t{kPackedTileBytes},
          .scale = problem.scale,
          .down = problem.down.data,
          .low = problem.low,
          .rank = static_cast<int>(problem.down.rows),
          .producer = problem.producer,
          .up = problem.up,
          .multiplier = static_cast<const float*>(problem.multiplier),
          .shift = static_cast<const float*>(problem.shift),
          .image_tokens = static_cast<unsigned>(std::clamp<std::int64_t>(image, 1, tokens)),
          .eps = problem.eps,
          .transform = problem.transform,
          .transform_block = problem.transform_block,
          .selected_from = problem.selected_from,
          .portable = problem.portable,
          .workspace = problem.workspace,
          .multiprocessors = device.multiprocessors};
}

}  // namespace

std::size_t pack24_workspace_bytes(int rank, const DeviceTraits& device) {
  if (device.compute_capability != 90) return 0;
  return pack::Workspace::bytes(device.multiprocessors, rank);
}

void pack24(const Pack24& problem, cudaStream_t stream) {
  if (problem.x.rows == 0) return;
  check_input(problem);
  check_low_rank(problem);
  check_producer(problem);
  check_transform(problem);
  const DeviceTraits device = current_device();
  require(device.compute_capability >= 80, kPack, "a GPU of compute capability 8.0 or later",
          std::to_string(device.compute_capability));
  const pack::Params params = params_of(problem, device);
  const bool adds_up = params.scale != nullptr || params.rank > 0;
  if (adds_up && pack24_runs_on_hopper(params, device.compute_capability)) {
    check_workspace(problem, device);
  }
  check(launch_pack24(problem.x.dtype, params, device.compute_capability, stream), kPack);
}

void unpack24(const void* operand, MatrixView kept, cudaStream_t stream) {
  check_matrix("gpu::unpack24", "kept", kept);
  check_channels("gpu::unpack24", kept.columns, 16);
  check(launch_unpack24(operand, kept, stream), "gpu::unpack24");
}

}  // namespace rtlynx::gpu
