// SPDX-License-Identifier: Apache-2.0
// What no operator on torch's stable ABI gets around: a boxed call with the arguments of pack and
// product, and torch's allocation of what they give. Nothing is checked, nothing launched.
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "ops/aten.h"

namespace rtlynx::host_floor {
namespace {

using ops::empty_like_device;
using ops::ScalarType;
using ops::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Tensors = std::vector<Tensor>;
using Integers = std::vector<std::int64_t>;

std::tuple<Tensor, Tensor, Tensor> pack(const Tensor& x, const OptionalTensor&, const std::string&,
                                        const OptionalTensor&, const OptionalTensor&,
                                        const OptionalTensor&, const OptionalTensor&,
                                        const OptionalTensor&, double, const OptionalTensor&,
                                        const OptionalTensor& down, bool, std::optional<double>,
                                        double, const OptionalTensor&, const OptionalTensor&) {
  const std::int64_t tokens = x.size(1);
  return {empty_like_device(x, {tokens, x.size(2)}, ScalarType::Byte),
          empty_like_device(x, {1, tokens}, ScalarType::Float),
          empty_like_device(x, {1, tokens, down->size(0)}, ScalarType::BFloat16)};
}

Tensors product(const Tensor&, const Tensor&, const Tensor& low, const Tensors& weights,
                const Tensors&, const Integers&, const Tensors&, const Integers&, const Tensors&,
                const Tensors&) {
  Tensors results;
  for (const Tensor& weight : weights) {
    results.push_back(
        empty_like_device(low, {1, low.size(1), weight.size(0)}, ScalarType::BFloat16));
  }
  return results;
}

}  // namespace
}  // namespace rtlynx::host_floor

STABLE_TORCH_LIBRARY(rtlynx_floor, m) {
  m.def(
      "pack(Tensor x, Tensor? tail, str producer, Tensor? up, Tensor? moments, Tensor? weight, "
      "Tensor? scale, Tensor? shift, float eps, Tensor? transform, Tensor? down, bool norm, "
      "float? e4m3_unit, float transform_gain, Tensor? limit, Tensor? tail_limit) -> "
      "(Tensor, Tensor, Tensor)");
  m.def(
      "product(Tensor operand, Tensor row_scale, Tensor low, Tensor[] weights, Tensor[] ups, "
      "int[] low_starts, Tensor[] biases, int[] activations, Tensor[] gates, Tensor[] residuals) "
      "-> Tensor[]");
}
STABLE_TORCH_LIBRARY_IMPL(rtlynx_floor, CompositeExplicitAutograd, m) {
  m.impl("pack", TORCH_BOX(&rtlynx::host_floor::pack));
  m.impl("product", TORCH_BOX(&rtlynx::host_floor::product));
}
