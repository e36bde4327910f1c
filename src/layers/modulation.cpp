// SPDX-License-Identifier: Apache-2.0
#include "layers/modulation.h"

namespace rtlynx {

torch::Tensor layer_norm(const torch::Tensor& x) {
  return torch::layer_norm(x, {x.size(-1)}, {}, {}, /*eps=*/1e-6);
}

torch::Tensor modulate(const torch::Tensor& x, const torch::Tensor& scale,
                       const torch::Tensor& shift) {
  const torch::Tensor out = torch::addcmul(shift.unsqueeze(1), x, 1 + scale.unsqueeze(1));
  // Under autocast x is fp32 and the modulation bf16: one cast here serves all Linears that follow.
  return out.to(shift.scalar_type());
}

ModulationImpl::ModulationImpl(std::int64_t dim, int parts, const torch::TensorOptions& options)
    : parts_(parts) {
  linear = register_module("linear", SparseLinear(dim, parts * dim, options));
}

std::vector<torch::Tensor> ModulationImpl::forward(const torch::Tensor& temb) {
  return linear(torch::silu(temb)).chunk(parts_, /*dim=*/1);
}

}  // namespace rtlynx
