// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "rtlynx/gpu/product24.h"

namespace rtlynx::benchmark {

/// "dense", "sm80", or for sm90 the tile of tokens x outputs, cluster, group of tiles and an `s`
/// for stream-K: "128x256c2g8s".
std::string name_of(const gpu::Gemm24Config& config);

/// The inverse; cluster, group and stream-K may be left out. Throws UsageError.
gpu::Gemm24Config parse_config(const std::string& name);

/// The configurations of sm90 worth comparing for a shape: with stream-K only where it cuts
/// anything.
std::vector<gpu::Gemm24Config> sweep_configs(const gpu::Gemm24Shape& shape,
                                             const gpu::DeviceTraits& device);

}  // namespace rtlynx::benchmark
