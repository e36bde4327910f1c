// SPDX-License-Identifier: Apache-2.0
// Qwen-Image's guidance, whose formula is simple enough to be written down again.
#include <gtest/gtest.h>

#include "models/text_to_image/qwen_image_denoiser.h"

namespace rtlynx {
namespace {

TEST(QwenImageGuide, EveryTokenKeepsTheNormOfThePromptsOwn) {
  torch::manual_seed(1);
  const QwenImageConfig config{.num_layers = 0,
                               .attention_head_dim = 16,
                               .num_attention_heads = 1,
                               .joint_attention_dim = 8,
                               .axes_dims_rope = {4, 6, 6}};
  const QwenImageDenoiser denoiser{QwenImageTransformer(config)};
  const torch::Tensor wanted = torch::randn({2, 3, 4, 6}), unwanted = torch::randn({2, 3, 4, 6});
  const torch::Tensor guided = denoiser.guide(wanted, unwanted, 3);
  const torch::Tensor plain = unwanted + 3 * (wanted - unwanted);
  for (std::int64_t picture = 0; picture < 2; ++picture) {
    for (std::int64_t row = 0; row < 4; row += 2) {
      for (std::int64_t column = 0; column < 6; column += 2) {
        const auto token = [&](const torch::Tensor& x) {
          return x[picture].slice(1, row, row + 2).slice(2, column, column + 2);
        };
        const torch::Tensor expected = token(plain) * (token(wanted).norm() / token(plain).norm());
        EXPECT_LE((token(guided) - expected).abs().max().item<float>(), 1e-5);
      }
    }
  }
}

}  // namespace
}  // namespace rtlynx
