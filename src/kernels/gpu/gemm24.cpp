// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/gpu/gemm24.h"

#include <algorithm>
#include <limits>
#include <string>

#include "base/error.h"
#include "kernels/gemm/select.h"
#include "kernels/gemm/sm80/launch.h"
#include "kernels/gemm/sm90/launch.h"
#include "kernels/gpu/check.h"

namespace rtlynx::gpu {
namespace {

constexpr std::string_view kGemm = "gpu::gemm24";
constexpr int kSm80TileOutputs = 128;

void check_shape(const Gemm24& problem) {
  const Gemm24Shape& shape = problem.shape;
  check_sizes(kGemm, shape);
  require(shape.dtype == DType::bf16 || shape.dtype == DType::f16, kGemm, "bf16 or f16",
          name_of(shape.dtype));
  require(shape.outputs % 8 == 0, kGemm, "outputs N divisible by 8", std::to_string(shape.outputs));
  require(shape.channels % 16 == 0, kGemm, "channels K divisible by 16",
          std::to_string(shape.channels));
  require(shape.rank >= 0 && shape.rank % 16 == 0 && shape.rank <= 128, kGemm,
          "a rank of 0 to 128, divisible by 16", std::to_string(shape.rank));
  constexpr std::int64_t kLargest = std::numeric_limits<int>::max() / 2;
  const std::int64_t largest = std::max({shape.tokens, shape.outputs, shape.channels});
  require(largest <= kLargest, kGemm, "sizes of at most 2^30", std::to_string(largest));
  require(problem.sparse == SparseOperand::activation, kGemm, "the activation as sparse operand",
          "the weight");
}

void check_segments(const Gemm24& problem, int tile_outputs) {
  require(problem.segments >= 1 && problem.segments <= kMaxSegments, kGemm, "1 to 4 segments",
          std::to_string(problem.segments));
  if (problem.segments == 1) return;
  require(problem.shape.rank % 32 == 0, kGemm, "a rank divisible by 32 for several segments",
          std::to_string(problem.shape.rank));
  std::int64_t before = 0;
  for (int i = 0; i < problem.segments; ++i) {
    const std::int64_t end = problem.segment_ends[i];
    const bool last = i + 1 == problem.segments;
    const bool fits = last ? end == problem.shape.outputs : end % tile_outputs == 0;
    if (end <= before || !fits) {
      fail(kGemm,
           "rising segment ends, multiples of the tile of " + std::to_string(tile_outputs) +
               " outputs, the last N",
           std::to_string(end) + " for segment " + std::to_string(i));
    }
    before = end;
  }
}

void check_pointers(const Gemm24& problem) {
  check_pointer(kGemm, "operand", problem.operand);
  check_pointer(kGemm, "weight", problem.weight);
  check_pointer(kGemm, "y", problem.y);
  check_pointer(kGemm, "low", problem.low, problem.shape.rank == 0);
  check_pointer(kGemm, "up", problem.up, problem.shape.rank == 0);
  check_pointer(kGemm, "scale", problem.scale, /*optional=*/true);
  check_pointer(kGemm, "bias", problem.bias, /*optional=*/true);
  check_pointer(kGemm, "gate", problem.gate, /*optional=*/true);
  check_pointer(kGemm, "residual", problem.residual, /*optional=*/true);
}

void check_workspace(const Gemm24& problem, const Gemm24Config& config,
                     const DeviceTraits& device) {
  const std::size_t needed = gemm24_workspace_bytes(config, device);
  if (needed == 0) return;
  check_pointer(kGemm, "workspace", problem.workspace);
  require(problem.workspace_bytes >= needed, kGemm,
          "a workspace of " + std::to_string(needed) + " bytes",
          std::to_string(problem.workspace_bytes));
}

void run_sm90(const Gemm24& problem, const Gemm24Config& config, const DeviceTraits& device,
              cudaStream_t stream) {
  require(device.compute_capability == 90, kGemm,
          "a GPU of compute capability 9.0 for the sm90 path",
          std::to_string(device.compute_capability));
  require(is_sm90_config(config), kGemm,
          "a tile of 128x256, a cluster of 1 or 2, a group of 1 or more",
          describe(config) + " in groups of " + std::to_string(config.group_tiles));
  check_segments(problem, config.tile_outputs);
  check_workspace(problem, config, device);
  check(launch_gemm24_sm90(problem, config, device.multiprocessors, stream), kGemm);
}

}  // namespace

void gemm24(const Gemm24& problem, const Gemm24Config& config, cudaStream_t stream) {
  check_shape(problem);
  check_pointers(problem);
  const DeviceTraits device = current_device();
  switch (config.path) {
    case Gemm24Config::Path::sm90:
      run_sm90(problem, config, device, stream);
      return;
    case Gemm24Config::Path::sm80:
      require(device.compute_capability >= 80, kGemm,
              "a GPU of compute capability 8.0 or later for the sm80 path",
              std::to_string(device.compute_capability));
      check_segments(problem, kSm80TileOutputs);
      check(launch_gemm24_sm80(problem, stream), kGemm);
      return;
    case Gemm24Config::Path::dense:
      fail(kGemm, "path sm80 or sm90: the caller runs dense products", "path dense");
  }
  fail(kGemm, "a known path", std::to_string(static_cast<int>(config.path)));
}

}  // namespace rtlynx::gpu
