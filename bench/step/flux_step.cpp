// SPDX-License-Identifier: Apache-2.0
#include "step/flux_step.h"

#include <cmath>

#include "models/flux/groups.h"

namespace rtlynx::benchmark {
namespace {

FluxConfig flux_dev() {
  FluxConfig config;
  config.guidance_embeds = true;
  return config;
}

/// Weights that keep activations of order one through all blocks.
void fill(FluxTransformer& model) {
  const torch::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    torch::Tensor& value = item.value();
    if (value.dim() == 2) {
      value.normal_(0.0, 1.0 / std::sqrt(static_cast<double>(value.size(1))));
    } else {
      const bool norm = item.key().find("norm_") != std::string::npos;
      value.normal_(norm ? 1.0 : 0.0, 0.05);
    }
  }
}

FluxInputs random_inputs(const FluxConfig& config, const StepTokens& tokens,
                         const torch::TensorOptions& options) {
  const auto side = static_cast<std::int64_t>(std::sqrt(static_cast<double>(tokens.image)));
  const torch::Tensor at = torch::arange(side).to(torch::kFloat32);
  const torch::Tensor rows = at.view({-1, 1}).expand({side, side});
  const torch::Tensor columns = at.view({1, -1}).expand({side, side});
  const torch::Tensor ids =
      torch::stack({torch::zeros({side, side}), rows, columns}, -1).view({-1, 3});
  const auto axes = static_cast<std::int64_t>(config.axes_dims_rope.size());
  return {.hidden_states = torch::randn({1, tokens.image, config.in_channels}, options),
          .encoder_hidden_states =
              torch::randn({1, tokens.text, config.joint_attention_dim}, options),
          .pooled_projections = torch::randn({1, config.pooled_projection_dim}, options),
          .timestep = torch::full({1}, 0.5, options),
          .guidance = torch::full({1}, 3.5, options),
          .img_ids = ids.to(options.device()),
          .txt_ids = torch::zeros({tokens.text, axes}).to(options.device())};
}

FluxInputs in_fp32(FluxInputs inputs) {
  for (torch::Tensor* tensor :
       {&inputs.hidden_states, &inputs.encoder_hidden_states, &inputs.pooled_projections,
        &inputs.timestep, &inputs.guidance}) {
    *tensor = tensor->to(torch::kFloat32);
  }
  return inputs;
}

/// The same model in fp32, with the same forms.
FluxTransformer in_fp32(const FluxTransformer& model, const FluxConfig& config) {
  const torch::NoGradGuard no_grad;
  const auto options = torch::TensorOptions().dtype(torch::kFloat32).device(torch::kCUDA);
  FluxTransformer wide(config, options);
  const auto parameters = model->named_parameters();
  for (auto& item : wide->named_parameters()) item.value().copy_(parameters[item.key()]);
  const std::vector<NamedLinear> from = named_linears(*model);
  std::vector<NamedLinear> to = named_linears(*wide);
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (from[i].linear->mode() == LinearMode::compensated) {
      to[i].linear->set_compensation(*from[i].linear->compensation());
    }
    to[i].linear->set_mode(from[i].linear->mode());
  }
  return wide;
}

double distance(const torch::Tensor& value, const torch::Tensor& exact) {
  const torch::Tensor wide = exact.to(torch::kFloat64);
  return ((value.to(torch::kFloat64) - wide).norm() / wide.norm()).item<double>();
}

}  // namespace

FluxStep::FluxStep(std::uint64_t seed) : config_(flux_dev()), groups_(flux_groups(config_)) {
  torch::manual_seed(seed);
  const auto options = torch::TensorOptions().dtype(torch::kBFloat16).device(torch::kCUDA);
  model_ = FluxTransformer(config_, options);
  fill(model_);
  model_->eval();
  inputs_ = random_inputs(config_, tokens(), options);
}

FluxStep::Distances FluxStep::distances() const {
  const torch::NoGradGuard no_grad;
  FluxTransformer model = model_;
  FluxFused fused(model);
  const torch::Tensor rotation = fused.rotation(inputs_.txt_ids, inputs_.img_ids);
  const torch::Tensor exact = in_fp32(model, config_)->forward(in_fp32(inputs_));
  return {.fused = distance(fused.forward(inputs_, rotation), exact),
          .plain = distance(model->forward(inputs_), exact)};
}

}  // namespace rtlynx::benchmark
