// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "base/libtorch.h"

namespace rtlynx {

/// A computation on the GPU as a CUDA graph: captured once, replayed without the host's work. Its
/// inputs are the tensors that the function reads; write new values into them.
class CapturedStep {
 public:
  /// Whether this build and machine can capture: a torch with CUDA and a GPU.
  static bool is_available();

  /// Runs `step` a few times, then captures it. The function must not wait for the GPU. Throws
  /// Error where capturing is not available.
  explicit CapturedStep(const std::function<torch::Tensor()>& step);
  ~CapturedStep();
  CapturedStep(CapturedStep&&) noexcept;
  CapturedStep& operator=(CapturedStep&&) noexcept;

  /// Starts it on the current stream; the result is overwritten by the next replay.
  const torch::Tensor& replay();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace rtlynx
