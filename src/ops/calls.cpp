// SPDX-License-Identifier: Apache-2.0
#include <ATen/ops/empty.h>

#include <algorithm>

#include "ops/ops.h"

namespace rtlynx::ops {
namespace {

/// The layers as the operators' lists. A list that no layer has an entry for is empty; a layer
/// without an entry has a tensor without elements.
struct Lists {
  std::vector<at::Tensor> weights, ups, biases, gates, residuals;
  std::vector<std::int64_t> low_starts, activations;
};

void collect(const std::vector<ProductLayer>& layers, at::Tensor ProductLayer::*member,
             std::vector<at::Tensor>& list) {
  const bool any = std::any_of(layers.begin(), layers.end(), [&](const ProductLayer& layer) {
    return (layer.*member).defined();
  });
  if (!any) return;
  list.reserve(layers.size());
  for (const ProductLayer& layer : layers) {
    const at::Tensor& entry = layer.*member;
    list.push_back(entry.defined() ? entry : at::empty({0}, layer.weight.options()));
  }
}

Lists lists_of(const std::vector<ProductLayer>& layers) {
  Lists lists;
  lists.weights.reserve(layers.size());
  lists.low_starts.reserve(layers.size());
  bool any_activation = false;
  for (const ProductLayer& layer : layers) {
    lists.weights.push_back(layer.weight);
    lists.low_starts.push_back(layer.low_start);
    any_activation |= layer.activation != Activation::none;
  }
  for (std::size_t i = 0; any_activation && i < layers.size(); ++i) {
    lists.activations.push_back(static_cast<std::int64_t>(layers[i].activation));
  }
  collect(layers, &ProductLayer::up, lists.ups);
  collect(layers, &ProductLayer::bias, lists.biases);
  collect(layers, &ProductLayer::gate, lists.gates);
  collect(layers, &ProductLayer::residual, lists.residuals);
  return lists;
}

}  // namespace

std::vector<at::Tensor> product(const Packed& packed, const std::vector<ProductLayer>& layers) {
  static const auto op = find_op<std::vector<at::Tensor>(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, at::TensorList, at::TensorList,
      at::IntArrayRef, at::TensorList, at::IntArrayRef, at::TensorList, at::TensorList)>(
      "rtlynx::product");
  const Lists lists = lists_of(layers);
  return op.call(packed.operand, packed.scale, packed.low, lists.weights, lists.ups,
                 lists.low_starts, lists.biases, lists.activations, lists.gates, lists.residuals);
}

void product_out(const Packed& packed, const std::vector<ProductLayer>& layers,
                 const std::vector<at::Tensor>& out, const std::vector<at::Tensor>& largest) {
  static const auto op =
      find_op<void(const at::Tensor&, const at::Tensor&, const at::Tensor&, at::TensorList,
                   at::TensorList, at::IntArrayRef, at::TensorList, at::IntArrayRef, at::TensorList,
                   at::TensorList, at::TensorList, at::TensorList)>("rtlynx::product_out");
  const Lists lists = lists_of(layers);
  op.call(packed.operand, packed.scale, packed.low, lists.weights, lists.ups, lists.low_starts,
          lists.biases, lists.activations, lists.gates, lists.residuals, out, largest);
}

Heads head_norm(const HeadStreams& streams, const OptionalTensor& rotation, std::int64_t head_dim,
                double eps) {
  using Result = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
  static const auto op =
      find_op<Result(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList,
                     const OptionalTensor&, std::int64_t, double)>("rtlynx::head_norm");
  auto [q, k, v] = op.call(streams.q, streams.k, streams.v, streams.q_weights, streams.k_weights,
                           rotation, head_dim, eps);
  return {std::move(q), std::move(k), std::move(v)};
}

}  // namespace rtlynx::ops
