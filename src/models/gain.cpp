// SPDX-License-Identifier: Apache-2.0
#include "models/gain.h"

#include "rtlynx/gpu/product24.h"
#include "rtlynx/limits.h"

namespace rtlynx {

bool gains(const LayerGroup& group, std::int64_t tokens, const SparseForm& form,
           const gpu::DeviceTraits& device) {
  const int padded_rank = (form.rank + kRankMultiple - 1) / kRankMultiple * kRankMultiple;
  const gpu::Gemm24Shape shape{.tokens = tokens,
                               .outputs = group.outputs(),
                               .channels = group.channels,
                               .rank = padded_rank,
                               .width = form.width};
  return gpu::select_gemm24(shape, device).config.path != gpu::Gemm24Config::Path::dense;
}

}  // namespace rtlynx
