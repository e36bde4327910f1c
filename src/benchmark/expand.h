// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "benchmark/device.h"
#include "rtlynx/dtype.h"

namespace rtlynx::benchmark {

/// The matrix [rows, channels] of an operand24 in device memory, by way of the host. `values`: f16,
/// bf16, or e4m3, whose codes bf16 holds exactly. The result is of 16 bits.
DeviceBuffer expand_operand(const void* operand, DType values, std::int64_t rows,
                            std::int64_t channels);

}  // namespace rtlynx::benchmark
