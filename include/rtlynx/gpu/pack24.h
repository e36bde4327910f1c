// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "rtlynx/gpu/device.h"
#include "rtlynx/limits.h"
#include "rtlynx/matrix.h"
#include "rtlynx/operand24.h"
#include "rtlynx/pack24.h"

/// Online 2:4 packing on the GPU (sm_80 and later): one pass over X gives all that the products of
/// product24.h read.
namespace rtlynx::gpu {

/// The packed input in device memory.
struct PackedInput {
  DType dtype = DType::bf16;               // of X and H
  OperandWidth width = OperandWidth::k16;  // of the kept values: k8 is e4m3
  std::int64_t tokens = 0;                 // M
  std::int64_t channels = 0;               // K
  void* operand = nullptr;  // operand24_bytes(width, M, K), the layout of rtlynx/operand24.h
  float* scale = nullptr;   // [M]: s, of e4m3 values (s / code_factor) weight_unit
  MatrixView low = {};      // [M, R]: H / s, of e4m3 H / (s / code_factor); no columns: no low rank
};

/// Memory that a call needs beside its arguments, at least as many bytes as asked for. It must be
/// zero before its first use; every call leaves it ready for the next. One for each stream in
/// flight; calls of all kinds may share it.
struct Workspace {
  void* data = nullptr;
  std::size_t bytes = 0;
};

/// For packs of any size with `low_columns` columns of H; 0 where none is needed.
std::size_t pack24_workspace_bytes(int low_columns, const DeviceTraits& device);

/// What rtlynx/pack24.h specifies, on device memory of the current device: f16 or bf16; K and the
/// row strides divisible by 16, R by 16 up to kMaxLowColumns; every pointer 16-byte aligned.
/// Selection and metadata of z are those of the specification, bit for bit; sums agree to fp32
/// summation error. Rows that fill the last tile are written as zeros.
///
/// e4m3 values, where input.code_factor is given, take a GPU of compute capability 9.0.
///
/// Asynchronous on `stream`; allocates nothing; capturable in a graph; the same bits every time.
/// Throws Error for arguments that break the rules above and for a launch that CUDA refuses.
void pack24(const Pack24& input, const PackedInput& packed, const Workspace& workspace,
            cudaStream_t stream);

/// rtlynx/pack24.h's code_factors, on device memory: the same rules for the arguments, the same
/// bits for the same z. A norm reads its modulation alone; other inputs are read once more.
void code_factors(const Pack24& input, float transform_gain, float* factors, cudaStream_t stream);

}  // namespace rtlynx::gpu
