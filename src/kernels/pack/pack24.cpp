// SPDX-License-Identifier: Apache-2.0
#include "kernels/pack/pack24.h"

#include "rtlynx/operand24.h"

namespace rtlynx {

bool pack24_runs_on_hopper(const pack::Params& params, int compute_capability) {
  const bool takes_transform = params.transform == nullptr ||
                               params.transform_block == kPackedTileChannels ||
                               params.transform_block == 2 * kPackedTileChannels;
  return compute_capability == 90 && !params.portable && takes_transform;
}

cudaError_t launch_pack24(DType dtype, const pack::Params& params, int compute_capability,
                          cudaStream_t stream) {
  if (params.tokens == 0) return cudaSuccess;
  const bool bf16 = dtype == DType::bf16;
  if (pack24_runs_on_hopper(params, compute_capability)) {
    return bf16 ? pack::sm90::launch_bf16(params, stream) : pack::sm90::launch_f16(params, stream);
  }
  return bf16 ? pack::sm80::launch_bf16(params, stream) : pack::sm80::launch_f16(params, stream);
}

}  // namespace rtlynx
