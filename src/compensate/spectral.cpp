// SPDX-License-Identifier: Apache-2.0
#include "compensate/spectral.h"

#include "ops/ops.h"

namespace rtlynx {

torch::Tensor solve_damped(const torch::Tensor& a, const torch::Tensor& b, double damping) {
  static const auto op = ops::find_op<at::Tensor(const at::Tensor&, const at::Tensor&, double)>(
      "rtlynx::solve_damped");
  return op.call(a, b, damping);
}

}  // namespace rtlynx
