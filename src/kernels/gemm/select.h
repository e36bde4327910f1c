// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "kernels/gemm/measured.h"
#include "kernels/gemm/sm90/tile.h"
#include "rtlynx/gpu/product24.h"

namespace rtlynx::gpu {

/// "dense", "sm80", "sm90"; "unknown" for a value outside the enumeration.
const char* name_of(Gemm24Config::Path path);

/// "sm90 128x256 cluster 2 stream-K": tile of tokens x outputs.
std::string describe(const Gemm24Config& config);

/// 71.23 -> "71.2 us"
std::string format_microseconds(double microseconds);

/// Whether the sm90 path was built for this tile, cluster and group.
bool is_sm90_config(const Gemm24Config& config);

/// The same for sparse weights, whose tiles have the sides exchanged.
bool is_sm90_weight_config(const Gemm24Config& config);

/// Into how many slices stream-K cuts each tile of the last wave of `ctas` tiles (scheduler.h); 1:
/// it cuts nothing, and is the same as without.
int stream_k_slices(const Gemm24Shape& shape, int ctas);

/// CTAs that run at once: whole clusters, one CTA to a multiprocessor.
constexpr int sm90_ctas(int multiprocessors, int cluster) {
  return multiprocessors / cluster * cluster;
}

/// Throws Error in the name of `op` for a size below 1.
void check_sizes(std::string_view op, const Gemm24Shape& shape);

/// Path dense with the reason if no sparse kernel can run this. Throws Error for a size below 1.
std::optional<Gemm24Choice> refuse_gemm24(const Gemm24Shape& shape, const DeviceTraits& device);

/// The fastest sparse configuration for a shape that the kernels take, whether or not dense would
/// be faster: for callers that have decided. No text is made.
Gemm24Config fastest_sparse(const Gemm24Shape& shape, const DeviceTraits& device);

/// select_gemm24 by other measurements than the built-in ones.
Gemm24Choice select_gemm24(const Gemm24Shape& shape, const DeviceTraits& device,
                           const Measurements& measured);

}  // namespace rtlynx::gpu
