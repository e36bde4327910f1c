// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "rtlynx/gpu/device.h"
#include "rtlynx/rows.h"

/// The row kernels on device memory of the current device: f16 or bf16, columns divisible by 8 up
/// to kMaxRowColumns, pointers 16-byte aligned, row strides divisible by 8. Asynchronous on
/// `stream`; allocate nothing; capturable; the same bits every time. Sums agree with the
/// specification to fp32 summation error. Throw Error for arguments that break the rules and for a
/// launch that CUDA refuses.
namespace rtlynx::gpu {

inline constexpr int kMaxRowColumns = 32768;

void moments(const Moments& problem, cudaStream_t stream);
void residual_norm(const ResidualNorm& problem, cudaStream_t stream);
void head_norm(const HeadNorm& problem, cudaStream_t stream);
void swiglu(const Swiglu& problem, cudaStream_t stream);
void quantize(const Quantize& problem, cudaStream_t stream);  // K divisible by 16

}  // namespace rtlynx::gpu
