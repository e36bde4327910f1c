// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "rtlynx/dtype.h"

/// Dense e4m3, as the rival of an FP8 layer has it.
namespace rtlynx::benchmark {

/// matrix [rows, columns] of f16 or bf16, contiguous, columns divisible by 8.
struct Rows {
  const void* data = nullptr;
  DType dtype = DType::bf16;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

/// matrix * factor, rounded to e4m3.
void to_codes(const Rows& matrix, float factor, std::uint8_t* codes, cudaStream_t stream);

/// The codes' values, which f16 and bf16 hold exactly.
void from_codes(const std::uint8_t* codes, std::int64_t count, DType dtype, void* values,
                cudaStream_t stream);

}  // namespace rtlynx::benchmark
