// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "models/qwen_image/fused.h"
#include "models/text_to_image/model.h"
#include "models/text_to_image/transformer_pass.h"

namespace rtlynx {

inline constexpr std::int64_t kQwenImagePatch = 2;

struct QwenImagePassFamily {
  using Transformer = QwenImageTransformer;
  using Fused = QwenImageFused;
  using Inputs = QwenImageInputs;
  static std::vector<torch::Tensor*> changing(QwenImageInputs& inputs);
  static bool same_places(const QwenImageInputs& a, const QwenImageInputs& b);
  static torch::Tensor rotation(const QwenImageFused& fused, const QwenImageInputs& inputs);
};

/// Qwen-Image's transformer at work.
class QwenImageDenoiser : public Denoiser {
 public:
  explicit QwenImageDenoiser(QwenImageTransformer transformer);

  torch::Tensor velocity(const DenoiserInput& input) override;

  /// The usual guidance, then every token of 2 x 2 latents brought back to the norm of `wanted`.
  torch::Tensor guide(const torch::Tensor& wanted, const torch::Tensor& unwanted,
                      double strength) const override;

  torch::nn::Module& transformer() override { return pass_.transformer(); }

 private:
  TransformerPass<QwenImagePassFamily> pass_;
};

}  // namespace rtlynx
