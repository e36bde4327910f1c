// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "base/libtorch.h"
#include "layers/captured_step.h"
#include "models/device_memory.h"

namespace rtlynx {

/// Whether the fused path takes these activations: on a GPU in f16 or bf16.
bool runs_fused(const torch::Tensor& activations);

/// A transformer's passes: on the fused path, as a CUDA graph where torch can capture one; else on
/// the plain path. `Family` names the types Transformer, Fused and Inputs, and says of inputs
///   changing(inputs)       pointers to the tensors that have new values in every step;
///   same_places(a, b)      whether all else, and what the rotation depends on, is equal;
///   rotation(fused, inputs).
template <typename Family>
class TransformerPass {
 public:
  using Transformer = typename Family::Transformer;
  using Inputs = typename Family::Inputs;

  explicit TransformerPass(Transformer transformer) : transformer_(std::move(transformer)) {}

  torch::Tensor run(const Inputs& inputs) {
    if (!runs_fused(inputs.hidden_states)) return transformer_(inputs);
    // The fused path moves weights, which may be changed outside of inference mode later.
    const torch::InferenceMode off(false);
    const torch::NoGradGuard no_grad;
    if (!fused_) {
      fused_ = std::make_unique<FusedPass>(transformer_);
      release_freed_memory(inputs.hidden_states.device());  // dense weights that were stacked
    }
    return fused_->run(inputs);
  }

  /// Whoever asks for it may change its layers: the fused path is made anew.
  torch::nn::Module& transformer() {
    fused_.reset();
    return *transformer_;
  }

  const Transformer& model() const { return transformer_; }

 private:
  /// A graph reads its inputs where they were when it was captured.
  class Captured {
   public:
    Captured(typename Family::Fused& fused, Inputs inputs)
        : inputs_(own_copy(std::move(inputs))),
          rotation_(Family::rotation(fused, inputs_)),
          step_([&] { return fused.forward(inputs_, rotation_); }) {}

    bool fits(Inputs& inputs) {
      const auto own = Family::changing(inputs_), given = Family::changing(inputs);
      for (std::size_t i = 0; i < own.size(); ++i) {
        if (own[i]->sizes() != given[i]->sizes()) return false;
      }
      return Family::same_places(inputs_, inputs);
    }

    torch::Tensor run(Inputs& inputs) {
      const auto own = Family::changing(inputs_), given = Family::changing(inputs);
      for (std::size_t i = 0; i < own.size(); ++i) own[i]->copy_(*given[i]);
      return step_.replay().clone();  // the next replay overwrites it
    }

   private:
    static Inputs own_copy(Inputs inputs) {
      for (torch::Tensor* const tensor : Family::changing(inputs)) *tensor = tensor->clone();
      return inputs;
    }

    Inputs inputs_;
    torch::Tensor rotation_;
    CapturedStep step_;
  };

  /// The fused path with the layers as they were, and its last graphs.
  class FusedPass {
   public:
    explicit FusedPass(const Transformer& transformer) : fused_(transformer) {}

    torch::Tensor run(Inputs inputs) {
      if (!CapturedStep::is_available()) {
        return fused_.forward(inputs, Family::rotation(fused_, inputs));
      }
      for (const auto& graph : graphs_) {
        if (graph->fits(inputs)) return graph->run(inputs);
      }
      if (graphs_.size() == kGraphs) graphs_.erase(graphs_.begin());  // its memory first
      graphs_.push_back(std::make_unique<Captured>(fused_, inputs));
      return graphs_.back()->run(inputs);
    }

   private:
    // With classifier-free guidance two prompts, perhaps of two lengths, take turns.
    static constexpr std::size_t kGraphs = 2;

    typename Family::Fused fused_;
    std::vector<std::unique_ptr<Captured>> graphs_;
  };

  Transformer transformer_;
  std::unique_ptr<FusedPass> fused_;
};

}  // namespace rtlynx
