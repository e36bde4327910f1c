// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "models/flux/fused.h"
#include "models/text_to_image/model.h"
#include "models/text_to_image/transformer_pass.h"

namespace rtlynx {

inline constexpr std::int64_t kFluxPatch = 2;
// Features of a prompt.
inline constexpr const char* kFluxPooled = "pooled";  // [d], of CLIP
inline constexpr const char* kFluxTokens = "tokens";  // [L, d], of T5

struct FluxPassFamily {
  using Transformer = FluxTransformer;
  using Fused = FluxFused;
  using Inputs = FluxInputs;
  static std::vector<torch::Tensor*> changing(FluxInputs& inputs);
  static bool same_places(const FluxInputs& a, const FluxInputs& b);
  static torch::Tensor rotation(const FluxFused& fused, const FluxInputs& inputs);
};

/// FLUX.1's transformer at work.
class FluxDenoiser : public Denoiser {
 public:
  explicit FluxDenoiser(FluxTransformer transformer);

  torch::Tensor velocity(const DenoiserInput& input) override;
  torch::nn::Module& transformer() override { return pass_.transformer(); }

 private:
  FluxInputs inputs_of(const DenoiserInput& input) const;

  TransformerPass<FluxPassFamily> pass_;
};

}  // namespace rtlynx
