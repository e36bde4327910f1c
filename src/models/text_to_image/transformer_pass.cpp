// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/transformer_pass.h"

namespace rtlynx {

bool runs_fused(const torch::Tensor& activations) {
  const auto type = activations.scalar_type();
  return activations.is_cuda() && (type == torch::kBFloat16 || type == torch::kFloat16);
}

}  // namespace rtlynx
