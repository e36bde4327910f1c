// SPDX-License-Identifier: Apache-2.0
#include "models/text_to_image/flux_denoiser.h"

#include <optional>
#include <utility>
#include <vector>

#include "layers/captured_step.h"
#include "models/patches.h"

namespace rtlynx {
namespace {

torch::Tensor stack(const std::vector<PromptFeatures>& features, const char* name) {
  std::vector<torch::Tensor> rows;
  for (const PromptFeatures& prompt : features) rows.push_back(prompt.at(name));
  return torch::stack(rows);
}

bool runs_fused(const torch::Tensor& activations) {
  const auto type = activations.scalar_type();
  return activations.is_cuda() && (type == torch::kBFloat16 || type == torch::kFloat16);
}

/// The tensors that change from step to step. Positions follow from the shapes.
std::vector<torch::Tensor*> changing(FluxInputs& inputs) {
  std::vector<torch::Tensor*> tensors = {&inputs.hidden_states, &inputs.encoder_hidden_states,
                                         &inputs.pooled_projections, &inputs.timestep};
  if (inputs.guidance.defined()) tensors.push_back(&inputs.guidance);
  return tensors;
}

}  // namespace

class FluxDenoiser::FusedStep {
 public:
  explicit FusedStep(const FluxTransformer& transformer) : fused_(transformer) {}

  torch::Tensor run(FluxInputs inputs) {
    if (!CapturedStep::is_available()) {
      return fused_.forward(inputs, fused_.rotation(inputs.txt_ids, inputs.img_ids));
    }
    if (!captured_ || !captured_->fits(inputs)) {
      captured_.reset();  // its memory first
      captured_.emplace(fused_, inputs);
    }
    return captured_->run(inputs);
  }

 private:
  /// A graph reads its inputs where they were when it was captured.
  class Captured {
   public:
    Captured(FluxFused& fused, FluxInputs inputs)
        : inputs_(own_copy(std::move(inputs))),
          rotation_(fused.rotation(inputs_.txt_ids, inputs_.img_ids)),
          step_([&] { return fused.forward(inputs_, rotation_); }) {}

    bool fits(FluxInputs& inputs) {
      const auto own = changing(inputs_), given = changing(inputs);
      for (std::size_t i = 0; i < own.size(); ++i) {
        if (own[i]->sizes() != given[i]->sizes()) return false;
      }
      return torch::equal(inputs_.img_ids, inputs.img_ids);
    }

    torch::Tensor run(FluxInputs& inputs) {
      const auto own = changing(inputs_), given = changing(inputs);
      for (std::size_t i = 0; i < own.size(); ++i) own[i]->copy_(*given[i]);
      return step_.replay().clone();  // the next replay overwrites it
    }

   private:
    static FluxInputs own_copy(FluxInputs inputs) {
      for (torch::Tensor* const tensor : changing(inputs)) *tensor = tensor->clone();
      return inputs;
    }

    FluxInputs inputs_;
    torch::Tensor rotation_;
    CapturedStep step_;
  };

  FluxFused fused_;
  std::optional<Captured> captured_;
};

FluxDenoiser::FluxDenoiser(FluxTransformer transformer) : transformer_(std::move(transformer)) {}
FluxDenoiser::~FluxDenoiser() = default;

// Whoever asks for the transformer may change its layers: the fused path is made anew.
torch::nn::Module& FluxDenoiser::transformer() {
  fused_.reset();
  return *transformer_;
}

torch::Tensor FluxDenoiser::velocity(const DenoiserInput& input) {
  const torch::Tensor velocity = run(inputs_of(input));
  return pixels_from_tokens(velocity, kFluxPatch, input.latents.size(2), input.latents.size(3));
}

torch::Tensor FluxDenoiser::run(const FluxInputs& inputs) {
  if (!runs_fused(inputs.hidden_states)) return transformer_(inputs);
  // The fused path moves weights, which may be changed outside of inference mode later.
  const torch::InferenceMode off(false);
  const torch::NoGradGuard no_grad;
  if (!fused_) fused_ = std::make_unique<FusedStep>(transformer_);
  return fused_->run(inputs);
}

FluxInputs FluxDenoiser::inputs_of(const DenoiserInput& input) const {
  const torch::Tensor& latents = input.latents;
  const std::int64_t batch = latents.size(0), height = latents.size(2), width = latents.size(3);
  const torch::Tensor text = stack(input.features, kFluxTokens);  // [B, L, d]
  const auto fp32 = latents.options().dtype(torch::kFloat32);
  const torch::Tensor img_ids =
      image_position_ids(height / kFluxPatch, width / kFluxPatch).to(fp32);
  // diffusers rounds 1000 sigma to the weights' type before the transformer does it again.
  const torch::Tensor timestep =
      torch::full({batch}, 1000 * static_cast<float>(input.sigma), fp32).to(latents.scalar_type()) /
      1000;
  return {.hidden_states = tokens_from_pixels(latents, kFluxPatch),
          .encoder_hidden_states = text,
          .pooled_projections = stack(input.features, kFluxPooled),
          .timestep = timestep,
          .guidance = transformer_->config().guidance_embeds
                          ? torch::full({batch}, input.guidance, fp32)
                          : torch::Tensor(),
          .img_ids = img_ids,
          .txt_ids = torch::zeros({text.size(1), img_ids.size(1)}, fp32)};
}

}  // namespace rtlynx
