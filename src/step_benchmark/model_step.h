// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <utility>

#include "step_benchmark/family.h"
#include "step_benchmark/random_model.h"

namespace rtlynx::step_benchmark {

inline constexpr std::int64_t kPixelsOfToken = 16;  // along a side, in every family

/// The step of a family whose pieces have the interfaces of FLUX.1's. `Family` names them, and says
/// what they run on:
///
///   using Transformer, Fused, Config, Inputs;
///   StreamTokens tokens() const;                        // of one picture
///   std::int64_t blocks(const Config&) const;
///   Config checked(const Config&) const;                // with as many blocks as fp32 is run with
///   Inputs inputs(const Config&, const torch::TensorOptions&) const;
///   static Inputs in_fp32(Inputs);
///   static torch::Tensor rotation(const Fused&, const Inputs&);
template <typename Family>
class ModelStep : public FamilyStep {
 public:
  using Transformer = typename Family::Transformer;
  using Fused = typename Family::Fused;
  using Config = typename Family::Config;
  using Inputs = typename Family::Inputs;

  /// Weights and inputs are made on the device of `options`, from torch's generator.
  ModelStep(Family family, const Config& config, const torch::TensorOptions& options)
      : family_(std::move(family)), config_(config), options_(options), model_(config, options) {
    fill_with_random_weights(*model_);
    model_->eval();
    inputs_ = family_.inputs(config_, options_);
  }

  StreamTokens tokens() const override { return family_.tokens(); }
  const std::vector<LayerGroup>& groups() const override { return model_->groups(); }
  torch::nn::Module& model() override { return *model_; }

  std::function<torch::Tensor()> fused_pass() override { return fused_pass_of(model_); }

  Distances distances() override {
    const torch::NoGradGuard no_grad;
    const Config config = family_.checked(config_);
    const bool is_whole = family_.blocks(config) == family_.blocks(config_);
    Transformer model = is_whole ? model_ : copy(config, options_);
    const torch::Tensor exact =
        copy(config, options_.dtype(torch::kFloat32))->forward(Family::in_fp32(inputs_));
    return {.fused = relative_distance(fused_pass_of(model)(), exact),
            .plain = relative_distance(model->forward(inputs_), exact)};
  }

  CheckedBlocks checked_blocks() const override {
    return {.run = family_.blocks(family_.checked(config_)), .all = family_.blocks(config_)};
  }

 private:
  std::function<torch::Tensor()> fused_pass_of(const Transformer& model) const {
    Fused fused(model);
    const torch::Tensor rotation = Family::rotation(fused, inputs_);
    return
        [fused, inputs = inputs_, rotation]() mutable { return fused.forward(inputs, rotation); };
  }

  /// The model, or its first blocks, with the same weights and forms.
  Transformer copy(const Config& config, const torch::TensorOptions& options) const {
    Transformer made(config, options);
    copy_weights_and_forms(*model_, *made);
    made->eval();
    return made;
  }

  Family family_;
  Config config_;
  torch::TensorOptions options_;
  Transformer model_;
  Inputs inputs_;
};

}  // namespace rtlynx::step_benchmark
