// SPDX-License-Identifier: Apache-2.0
#include "ops/sparse_linear24.h"

#include <torch/csrc/stable/ops.h>

#include <cstddef>
#include <cstdint>

#include "kernels/check.h"
#include "kernels/gemm/select.h"
#include "kernels/gemm/workspace.h"
#include "kernels/pack/workspace.h"
#include "rtlynx/gpu/pack24.h"
#include "rtlynx/operand24.h"

namespace rtlynx::ops {
namespace {

using torch::stable::new_empty;

int rank_of(const Linear24Arguments& in) {
  return in.down ? static_cast<int>(in.down->size(0)) : 0;
}

gpu::Gemm24Shape shape_of(const Linear24Arguments& in) {
  return {.tokens = in.x.rows,
          .outputs = in.outputs,
          .channels = in.x.columns,
          .rank = rank_of(in),
          .dtype = in.x.dtype};
}

/// What computes sparse products for which a dense GEMM is faster, or that were not measured.
gpu::Gemm24Config fallback_config(const gpu::DeviceTraits& device) {
  if (device.compute_capability != 90) return {.path = gpu::Gemm24Config::Path::sm80};
  return {.path = gpu::Gemm24Config::Path::sm90,
          .tile_tokens = gpu::kSm90TileTokens,
          .tile_outputs = gpu::kSm90TileOutputs,
          .cluster = 2};
}

/// Of `bytes`, the first of them zero: what lies behind these is written before it is read.
Tensor new_workspace(const Tensor& like, std::size_t bytes, std::size_t zero_bytes,
                     cudaStream_t stream) {
  const Tensor workspace = new_empty(like, {static_cast<std::int64_t>(bytes)}, ScalarType::Byte);
  gpu::check(cudaMemsetAsync(workspace.mutable_data_ptr(), 0, zero_bytes, stream),
             "memset of a workspace");
  return workspace;
}

std::size_t bytes_of(const std::optional<Tensor>& workspace) {
  return workspace ? static_cast<std::size_t>(workspace->numel()) : 0;
}

const void* data_or_null(const std::optional<Tensor>& tensor) {
  return tensor ? tensor->const_data_ptr() : nullptr;
}

void* mutable_data_or_null(const std::optional<Tensor>& tensor) {
  return tensor ? tensor->mutable_data_ptr() : nullptr;
}

/// The tensors of a call, made before the pack is launched: the product follows it directly.
struct Buffers {
  Tensor x, weight, operand;
  std::optional<Tensor> scale, down, up, low, bias, pack_workspace, workspace;
};

Buffers make_buffers(const Linear24Arguments& in, bool norm, const gpu::Gemm24Config& config,
                     cudaStream_t stream) {
  const Tensor& x = in.x.tensor;
  Buffers buffers{.x = aligned(x), .weight = aligned(in.weight), .operand = new_operand24(in.x)};
  if (norm) buffers.scale = new_empty(x, {in.x.rows}, ScalarType::Float);
  if (in.down) {
    buffers.down = aligned(*in.down);
    buffers.up = aligned(*in.up);
    buffers.low = new_empty(x, {in.x.rows, rank_of(in)});
  }
  if (in.bias) buffers.bias = torch::stable::to(*in.bias, ScalarType::Float);
  buffers.pack_workspace = new_pack_workspace(x, rank_of(in), stream);
  const gpu::DeviceTraits device = gpu::current_device();
  if (const std::size_t bytes = gpu::gemm24_workspace_bytes(config, device)) {
    const std::size_t flag_bytes = gpu::Gemm24Workspace::bytes(device.multiprocessors, 0, 0);
    buffers.workspace = new_workspace(x, bytes, flag_bytes, stream);
  }
  return buffers;
}

}  // namespace

std::optional<Tensor> new_pack_workspace(const Tensor& like, int rank, cudaStream_t stream) {
  const gpu::DeviceTraits device = gpu::current_device();
  const std::size_t bytes = gpu::pack24_workspace_bytes(rank, device);
  if (bytes == 0) return std::nullopt;
  return new_workspace(like, bytes, pack::Workspace::arrival_bytes(device.multiprocessors), stream);
}

Linear24Choice choose_linear24(const Linear24Arguments& in) {
  if (in.x.columns == 0) return {};  // nothing to multiply
  const gpu::DeviceTraits device = gpu::current_device();
  const gpu::Gemm24Shape shape = shape_of(in);
  if (gpu::refuse_gemm24(shape, device)) return {};
  const gpu::Gemm24Config fastest = gpu::select_gemm24(shape, device).config;
  const bool dense_is_faster = fastest.path == gpu::Gemm24Config::Path::dense;
  return {dense_is_faster ? fallback_config(device) : fastest, dense_is_faster};
}

void run_sparse_linear24(const Linear24Arguments& in, bool norm, const gpu::Gemm24Config& config,
                         const Tensor& y, cudaStream_t stream) {
  const Buffers buffers = make_buffers(in, norm, config, stream);
  auto* const scale = static_cast<float*>(mutable_data_or_null(buffers.scale));
  gpu::pack24(
      {.x = contiguous(buffers.x.const_data_ptr(), in.x.dtype, in.x.rows, in.x.columns),
       .operand = buffers.operand.mutable_data_ptr(),
       .scale = scale,
       .down = contiguous(data_or_null(buffers.down), in.x.dtype, rank_of(in), in.x.columns),
       .low = mutable_data_or_null(buffers.low),
       .workspace = mutable_data_or_null(buffers.pack_workspace),
       .workspace_bytes = bytes_of(buffers.pack_workspace)},
      stream);
  gpu::gemm24({.shape = shape_of(in),
               .operand = buffers.operand.const_data_ptr(),
               .weight = buffers.weight.const_data_ptr(),
               .low = data_or_null(buffers.low),
               .up = data_or_null(buffers.up),
               .scale = scale,
               .bias = static_cast<const float*>(data_or_null(buffers.bias)),
               .y = y.mutable_data_ptr(),
               .workspace = mutable_data_or_null(buffers.workspace),
               .workspace_bytes = bytes_of(buffers.workspace),
               .follows_pack = true},
              config, stream);
}

Tensor aligned(const Tensor& tensor) {
  const Tensor dense = torch::stable::contiguous(tensor);
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(dense.const_data_ptr()) % 16 == 0;
  return is_aligned ? dense : torch::stable::clone(dense);
}

Tensor new_operand24(const Rows& x) {
  return new_empty(x.tensor, {operand24_bytes(x.rows, x.columns)}, ScalarType::Byte);
}

}  // namespace rtlynx::ops
