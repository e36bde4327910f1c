// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "rtlynx/matrix.h"

/// The row-major form of the packed matrix (rtlynx/pack24.h) on the GPU: values [M, K/2] of a
/// 16-bit type and metadata [M, K/16], both contiguous; K is a multiple of 16, values and kept are
/// 16-byte aligned. Both launches are asynchronous on `stream` of the current device and allocate
/// nothing; they return cudaErrorInvalidValue for a matrix that breaks these rules, else what the
/// launch returns.
namespace rtlynx {

/// The packed operand (rtlynx/operand24.h) to rows, as from_operand24 on the CPU.
cudaError_t launch_operand_to_rows(const void* operand, MatrixView values, std::uint16_t* metadata,
                                   cudaStream_t stream);

/// Rows to X~ [M, K] with zeros, contiguous. Metadata is trusted: where a nibble is none that
/// packing writes, the values of its group are wrong, and nothing else is.
cudaError_t launch_unpack_rows(ConstMatrixView values, const std::uint16_t* metadata, void* kept,
                               cudaStream_t stream);

}  // namespace rtlynx
