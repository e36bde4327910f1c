// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/recipe.h"

namespace rtlynx {

/// `group` is the layer's name; `x` [..., K] is read-only and valid during the call.
using InputCallback = std::function<void(const std::string& layer, const torch::Tensor& x)>;

/// Observers on some layers of a model while this lives.
class ObserverScope {
 public:
  /// `on_input` has to live as long.
  ObserverScope(const torch::nn::Module& model,
                const std::function<bool(const std::string& layer)>& wanted,
                const InputCallback& on_input) {
    for (auto& item : named_linears(model)) {
      if (!wanted(item.name)) continue;
      item.linear->set_observer(
          [&on_input, name = item.name](const torch::Tensor& x) { on_input(name, x); });
      observed_.push_back(item.linear);
    }
  }
  ~ObserverScope() {
    for (auto& linear : observed_) linear->set_observer({});
  }
  ObserverScope(const ObserverScope&) = delete;
  ObserverScope& operator=(const ObserverScope&) = delete;

 private:
  std::vector<SparseLinear> observed_;
};

}  // namespace rtlynx
