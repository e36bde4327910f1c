// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/pack24.h"

#include "rtlynx/operand24.h"

namespace rtlynx {

int pack24_cluster(const pack::Params& params, int compute_capability, int multiprocessors) {
  if (compute_capability < 90) return 1;
  constexpr int kLargest = 8;  // the largest that every GPU with clusters runs
  // Of channels a CTA, or its start costs more than its work.
  const int least_tiles = params.rank > 0 ? 12 : 4;
  // As many CTAs as a multiprocessor holds (kCtasPerSm of the kernel): one more round is slower.
  const bool norm = params.producer >= gpu::Producer::layer_norm;
  const int ctas_per_sm = params.rank > 64 || params.transform != nullptr             ? 2
                          : norm                                                      ? 3
                          : params.rank > 0 || params.producer != gpu::Producer::none ? 4
                                                                                      : 5;
  const int blocks = (params.tokens + kPackedTileTokens - 1) / kPackedTileTokens;
  int cluster = 1;
  while (cluster < kLargest && 2 * cluster * blocks <= ctas_per_sm * multiprocessors &&
         2 * cluster * least_tiles <= params.tiles) {
    cluster *= 2;
  }
  return cluster;
}

cudaError_t launch_pack24(DType dtype, const pack::Params& params, int cluster,
                          cudaStream_t stream) {
  if (params.tokens == 0) return cudaSuccess;
  return dtype == DType::bf16 ? pack::launch_bf16(params, cluster, stream)
                              : pack::launch_f16(params, cluster, stream);
}

}  // namespace rtlynx
