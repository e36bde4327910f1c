// SPDX-License-Identifier: Apache-2.0
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "layers/captured_step.h"

namespace rtlynx {
namespace {

// Libraries choose their algorithms and make their handles in the first calls.
constexpr int kWarmUp = 3;

}  // namespace

struct CapturedStep::State {
  at::cuda::CUDAGraph graph;
  torch::Tensor result;
};

bool CapturedStep::is_available() { return torch::cuda::is_available(); }

CapturedStep::CapturedStep(const std::function<torch::Tensor()>& step)
    : state_(std::make_unique<State>()) {
  const torch::NoGradGuard no_grad;
  torch::cuda::synchronize();
  // The default stream cannot be captured.
  const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
  for (int i = 0; i < kWarmUp; ++i) step();
  torch::cuda::synchronize();
  state_->graph.capture_begin();
  state_->result = step();
  state_->graph.capture_end();
  torch::cuda::synchronize();
}

CapturedStep::~CapturedStep() = default;
CapturedStep::CapturedStep(CapturedStep&&) noexcept = default;
CapturedStep& CapturedStep::operator=(CapturedStep&&) noexcept = default;

const torch::Tensor& CapturedStep::replay() {
  state_->graph.replay();
  return state_->result;
}

}  // namespace rtlynx
