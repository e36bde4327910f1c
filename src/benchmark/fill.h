// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "rtlynx/dtype.h"

namespace rtlynx::benchmark {

struct Normal {
  float mean = 0;
  float deviation = 1;
  std::uint64_t seed = 0;
};

/// Draws `count` elements of `dtype`, f16 or bf16, into device memory; the same for the same seed.
void fill_normal(void* data, DType dtype, std::int64_t count, const Normal& distribution,
                 cudaStream_t stream);

}  // namespace rtlynx::benchmark
