// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "layers/captured_step.h"

namespace rtlynx {

struct CapturedStep::State {
  torch::Tensor result;
};

bool CapturedStep::is_available() { return false; }

CapturedStep::CapturedStep(const std::function<torch::Tensor()>&) {
  fail("CapturedStep", "a torch with CUDA", "one without");
}

CapturedStep::~CapturedStep() = default;
CapturedStep::CapturedStep(CapturedStep&&) noexcept = default;
CapturedStep& CapturedStep::operator=(CapturedStep&&) noexcept = default;

const torch::Tensor& CapturedStep::replay() { return state_->result; }

}  // namespace rtlynx
