// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "models/text_to_image/model.h"
#include "models/text_to_image/transformer_pass.h"
#include "models/z_image/fused.h"

namespace rtlynx {

struct ZImagePassFamily {
  using Transformer = ZImageTransformer;
  using Fused = ZImageFused;
  using Inputs = ZImageInputs;
  static std::vector<torch::Tensor*> changing(ZImageInputs& inputs);
  static bool same_places(const ZImageInputs& a, const ZImageInputs& b);
  static torch::Tensor rotation(const ZImageFused& fused, const ZImageInputs& inputs);
};

/// Z-Image's transformer at work. Velocities are in fp32.
class ZImageDenoiser : public Denoiser {
 public:
  explicit ZImageDenoiser(ZImageTransformer transformer);

  torch::Tensor velocity(const DenoiserInput& input) override;
  torch::nn::Module& transformer() override { return pass_.transformer(); }

 private:
  TransformerPass<ZImagePassFamily> pass_;
};

}  // namespace rtlynx
