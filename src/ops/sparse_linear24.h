// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <optional>

#include "ops/arguments.h"
#include "rtlynx/gpu/gemm24.h"

/// linear24 on the Sparse Tensor Cores of the current device.
namespace rtlynx::ops {

/// What may compute a layer with at least one output.
struct Linear24Choice {
  std::optional<gpu::Gemm24Config> sparse;  // none: no sparse kernel takes these arguments
  bool dense_is_faster = true;              // a dense GEMM, than the fastest sparse kernel
};
Linear24Choice choose_linear24(const Linear24Arguments& in);

/// y [.., N] on `stream`, by gpu::pack24 and gpu::gemm24. `config` is a choice's.
void run_sparse_linear24(const Linear24Arguments& in, bool norm, const gpu::Gemm24Config& config,
                         const Tensor& y, cudaStream_t stream);

/// Contiguous and 16-byte aligned, as the kernels want their tensors: a copy where the tensor is
/// not, which only views into others can be.
Tensor aligned(const Tensor& tensor);

/// A workspace for gpu::pack24 of this call, if it needs one.
std::optional<Tensor> new_pack_workspace(const Tensor& like, int rank, cudaStream_t stream);

/// An operand for gpu::pack24 to fill from x.
Tensor new_operand24(const Rows& x);

}  // namespace rtlynx::ops
