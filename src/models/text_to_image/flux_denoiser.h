// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "models/flux/fused.h"
#include "models/text_to_image/model.h"

namespace rtlynx {

inline constexpr std::int64_t kFluxPatch = 2;
// Features of a prompt.
inline constexpr const char* kFluxPooled = "pooled";  // [d], of CLIP
inline constexpr const char* kFluxTokens = "tokens";  // [L, d], of T5

/// FLUX.1's transformer at work: on a GPU in f16 or bf16 by its fused path, a CUDA graph where
/// torch can capture one; else by the plain path.
class FluxDenoiser : public Denoiser {
 public:
  explicit FluxDenoiser(FluxTransformer transformer);
  ~FluxDenoiser() override;

  torch::Tensor velocity(const DenoiserInput& input) override;
  torch::nn::Module& transformer() override;

 private:
  /// The fused path with the layers as they were, and its last captured step.
  class FusedStep;

  FluxInputs inputs_of(const DenoiserInput& input) const;
  torch::Tensor run(const FluxInputs& inputs);

  FluxTransformer transformer_;
  std::unique_ptr<FusedStep> fused_;
};

}  // namespace rtlynx
