// SPDX-License-Identifier: Apache-2.0
#include "layers/attention.h"

#include <optional>

#include "base/error.h"

namespace rtlynx {

torch::Tensor rotary_table(const torch::Tensor& ids, const std::vector<std::int64_t>& axes_dims,
                           double theta, torch::ScalarType precision) {
  require(ids.dim() == 2 && ids.size(1) == static_cast<std::int64_t>(axes_dims.size()),
          "rotary_table", "ids of shape [S, " + std::to_string(axes_dims.size()) + "]",
          std::to_string(ids.dim()) + " dimensions");
  std::vector<torch::Tensor> angles;
  const torch::Tensor positions = ids.to(torch::kFloat32).to(precision);
  for (std::size_t axis = 0; axis < axes_dims.size(); ++axis) {
    const auto dim = static_cast<double>(axes_dims[axis]);
    const torch::Tensor exponent = torch::arange(0, axes_dims[axis], 2, positions.options()) / dim;
    const torch::Tensor frequency = 1.0 / torch::pow(theta, exponent);
    angles.push_back(torch::outer(positions.select(1, static_cast<std::int64_t>(axis)), frequency));
  }
  const torch::Tensor angle = torch::cat(angles, /*dim=*/1);
  return torch::complex(angle.cos().to(torch::kFloat32), angle.sin().to(torch::kFloat32));
}

torch::Tensor apply_rotary(const torch::Tensor& x, const torch::Tensor& table) {
  const torch::Tensor pairs = x.to(torch::kFloat32).unflatten(-1, {-1, 2}).contiguous();
  const torch::Tensor turned = torch::view_as_complex(pairs) * table.unsqueeze(0).unsqueeze(2);
  return torch::view_as_real(turned).flatten(-2).to(x.scalar_type());
}

RmsNormImpl::RmsNormImpl(std::int64_t dim, const torch::TensorOptions& options) {
  weight = register_parameter("weight", torch::empty({dim}, options));
}

torch::Tensor RmsNormImpl::forward(const torch::Tensor& x) {
  // Under autocast x is bf16 and the weight fp32; one type for both keeps torch on its fused
  // kernel.
  return torch::rms_norm(x, {x.size(-1)}, weight.to(x.scalar_type()), /*eps=*/1e-6);
}

torch::Tensor attend(const torch::Tensor& query, const torch::Tensor& key,
                     const torch::Tensor& value, const torch::Tensor& table,
                     const torch::Tensor& mask) {
  const std::optional<torch::Tensor> attended = mask.defined() ? std::optional(mask) : std::nullopt;
  const torch::Tensor out = torch::scaled_dot_product_attention(
      apply_rotary(query, table).transpose(1, 2), apply_rotary(key, table).transpose(1, 2),
      value.transpose(1, 2), attended);
  return out.transpose(1, 2).flatten(2);
}

torch::Tensor split_heads(const torch::Tensor& x, std::int64_t head_dim) {
  return x.unflatten(-1, {-1, head_dim});
}

}  // namespace rtlynx
