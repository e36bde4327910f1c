// SPDX-License-Identifier: Apache-2.0
#include "layers/differentiable24.h"

namespace rtlynx {
namespace {

// [M, K] from [..., K].
torch::Tensor rows_of(const torch::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// a / b, and 0 where b is 0: a token of zeros has no direction.
torch::Tensor divide_or_zero(const torch::Tensor& a, const torch::Tensor& b) {
  return torch::where(b > 0, a / b, torch::zeros({}, a.options()));
}

class Select24 : public torch::autograd::Function<Select24> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               bool norm) {
    const auto [kept, scale] = ops::sparsify24(x, norm);
    context->save_for_backward({x, kept, scale});
    context->saved_data["norm"] = norm;
    if (!norm) return kept;
    return (kept * scale.unsqueeze(-1)).to(x.scalar_type());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const torch::Tensor x = rows_of(saved[0]).to(torch::kFloat32);
    const torch::Tensor kept = rows_of(saved[1]).to(torch::kFloat32);
    const torch::Tensor scale = saved[2].reshape({-1, 1});
    const torch::Tensor gradient = rows_of(gradients[0]).to(torch::kFloat32);
    torch::Tensor out = torch::where(kept != 0, gradient, torch::zeros({}, gradient.options()));
    if (context->saved_data["norm"].toBool()) {
      const auto squared = [](const torch::Tensor& rows) {
        return rows.square().sum(/*dim=*/1, /*keepdim=*/true);
      };
      const torch::Tensor along = (gradient * kept).sum(/*dim=*/1, /*keepdim=*/true);
      out = out + along * (divide_or_zero(x, squared(x)) - divide_or_zero(kept, squared(kept)));
      out = scale * out;
    }
    return {out.view(saved[0].sizes()).to(saved[0].scalar_type()), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor select24(const torch::Tensor& x, bool norm) { return Select24::apply(x, norm); }

torch::Tensor differentiable_linear24(const torch::Tensor& x, const ops::Linear24Weights& weights,
                                      bool norm) {
  const torch::Tensor y = torch::linear(select24(x, norm), weights.weight, weights.bias);
  if (!weights.lora_down) return y;
  return y + torch::linear(torch::linear(x, *weights.lora_down), *weights.lora_up);
}

}  // namespace rtlynx
