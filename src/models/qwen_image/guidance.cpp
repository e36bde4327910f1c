// SPDX-License-Identifier: Apache-2.0
#include "models/qwen_image/guidance.h"

#include "models/patches.h"

namespace rtlynx {

torch::Tensor with_norms_of(const torch::Tensor& wanted, const torch::Tensor& past,
                            std::int64_t patch) {
  const auto norms = [](const torch::Tensor& tokens) {
    return torch::linalg_vector_norm(tokens, 2, /*dim=*/-1, /*keepdim=*/true);
  };
  const torch::Tensor tokens = tokens_from_pixels(past, patch);
  const torch::Tensor own = norms(tokens_from_pixels(wanted, patch));
  return pixels_from_tokens(tokens * (own / norms(tokens)), patch, wanted.size(2), wanted.size(3));
}

}  // namespace rtlynx
