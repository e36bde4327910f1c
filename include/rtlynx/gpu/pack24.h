// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "rtlynx/gpu/device.h"
#include "rtlynx/matrix.h"

/// Online 2:4 packing on the GPU (sm_80 and later): one pass over X gives all that the sparse GEMM
/// of gemm24.h reads. All pointers are device memory of the current device, 16-byte aligned.
namespace rtlynx::gpu {

/// What computes the input of the selection from X while it is being read. fp32 inside, rounded
/// once to the element type; z stands for the result.
enum class Producer : std::uint8_t {
  none,        // z = x
  gelu,        // z = GELU(x), the tanh formula
  swiglu,      // z = SiLU(x) * up
  layer_norm,  // z = (x - mean) / sqrt(variance + eps) * multiplier + shift
  rms_norm,    // z = x / sqrt(mean of squares + eps) * multiplier + shift
};

/// Selection, scale and metadata of z are those of rtlynx/pack24.h, bit for bit but for the scale,
/// which agrees to fp32 summation error. Rows that fill the last tile are written as zeros.
struct Pack24 {
  ConstMatrixView x;     // [M, K], f16 or bf16; K and the row stride multiples of 16
  void* operand;         // out: operand24_bytes(M, K) bytes, the layout of rtlynx/operand24.h
  float* scale;          // out: [M], ||z|| / ||z~||; null: not wanted, and H is not divided
  ConstMatrixView down;  // [R, K] contiguous, R a multiple of 16 up to 256; no rows: no low rank
  void* low;             // out: [M, R] contiguous, (z down^T) / scale, element type of x

  Producer producer = Producer::none;
  const void* up = nullptr;          // swiglu: [M, K], with the row stride of x
  const void* multiplier = nullptr;  // norms: [ceil(M / image_tokens), K] fp32; null: ones
  const void* shift = nullptr;       // norms: the same; null: zeros
  std::int64_t image_tokens = 0;     // norms: tokens that share a row of the two; 0: all
  float eps = 1e-6f;                 // norms

  /// Block-diagonal transform z' = z A before the choice, blocks of 16, 64 or 128 channels:
  /// [K / block, block, block], block[o][i] the weight of input i in output o (A transposed).
  const void* transform = nullptr;
  int transform_block = 0;  // K a multiple of it; 128 takes 144 KiB of shared memory, which GPUs
                            // before sm_90 may not have

  void* workspace = nullptr;  // pack24_workspace_bytes, one per stream in flight
  std::size_t workspace_bytes = 0;

  void* selected_from = nullptr;  // out, for tests: [M, K] contiguous, what the selection saw
  bool portable = false;          // for tests: the kernel of sm_80 where a faster one exists
};

/// Bytes of workspace for packs with scale or low rank, of any size, with `rank` columns of H; 0
/// where none is needed. It must be zero before its first use and is left ready for the next: what
/// has to be zero is zero again, for any rank of at most this one.
std::size_t pack24_workspace_bytes(int rank, const DeviceTraits& device);

/// Asynchronous on `stream`; allocates nothing; capturable in a graph. Throws Error for arguments
/// that break the rules above and for a launch that CUDA refuses.
void pack24(const Pack24& problem, cudaStream_t stream);

/// The inverse for tests and tools: operand -> X~ [M, K] with zeros, contiguous.
void unpack24(const void* operand, MatrixView kept, cudaStream_t stream);

}  // namespace rtlynx::gpu
