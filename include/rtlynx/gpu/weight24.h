// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "rtlynx/gpu/product24.h"
#include "rtlynx/weight24.h"

/// Products of sparse weights on the GPU (sm_90).
namespace rtlynx::gpu {

/// The configuration that the time model estimates to be the fastest for sparse weights of this
/// shape: path sm90 in tiles of 256 tokens x 128 outputs. Pure host code.
Gemm24Config fastest_weight24(const Gemm24Shape& shape, const DeviceTraits& device);

/// The products of a dense input, in one pass over it: one to kMaxProducts weights, all with a low
/// rank of the same r columns or all without. What rtlynx/weight24.h specifies, on device memory of
/// the current device, a GPU of compute capability 9.0: X of f16, bf16 or e4m3; N divisible by 8, K
/// and low_column by 16, r by 16 up to kMaxRank; every pointer 16-byte aligned and every row stride
/// divisible by 8, of an e4m3 input by 16. `metadata` is not read. e4m3 sums have what wgmma keeps
/// of them (docs/kernels.md).
///
/// Workspace: product24_workspace_bytes(). Asynchronous on `stream`; allocates nothing; capturable
/// in a graph; the same bits every time. Throws Error for arguments that break these rules and for
/// a launch that CUDA refuses.
void weight_product24(const DenseInput24& input, std::span<const WeightProduct24> products,
                      const Gemm24Config& config, const Workspace& workspace, cudaStream_t stream);

}  // namespace rtlynx::gpu
