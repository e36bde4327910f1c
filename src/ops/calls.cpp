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

/// Layer: ProductLayer or WeightLayer.
template <typename Layer>
void collect(const std::vector<Layer>& layers, at::Tensor Layer::*member,
             std::vector<at::Tensor>& list) {
  const bool any = std::any_of(layers.begin(), layers.end(),
                               [&](const Layer& layer) { return (layer.*member).defined(); });
  if (!any) return;
  list.reserve(layers.size());
  for (const Layer& layer : layers) {
    const at::Tensor& entry = layer.*member;
    list.push_back(entry.defined() ? entry : at::empty({0}, layer.weight.options()));
  }
}

template <typename Layer>
Lists lists_of(const std::vector<Layer>& layers) {
  Lists lists;
  lists.weights.reserve(layers.size());
  lists.low_starts.reserve(layers.size());
  bool any_activation = false;
  for (const Layer& layer : layers) {
    lists.weights.push_back(layer.weight);
    lists.low_starts.push_back(layer.low_start);
    any_activation |= layer.activation != Activation::none;
  }
  for (std::size_t i = 0; any_activation && i < layers.size(); ++i) {
    lists.activations.push_back(static_cast<std::int64_t>(layers[i].activation));
  }
  collect(layers, &Layer::up, lists.ups);
  collect(layers, &Layer::bias, lists.biases);
  collect(layers, &Layer::gate, lists.gates);
  collect(layers, &Layer::residual, lists.residuals);
  return lists;
}

std::vector<std::int64_t> outputs_of(const std::vector<WeightLayer>& layers) {
  std::vector<std::int64_t> outputs;
  outputs.reserve(layers.size());
  for (const WeightLayer& layer : layers) outputs.push_back(layer.outputs);
  return outputs;
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

std::vector<at::Tensor> weight_product(const at::Tensor& x, const at::Tensor& low,
                                       const std::vector<WeightLayer>& layers) {
  static const auto op = find_op<std::vector<at::Tensor>(
      const at::Tensor&, const at::Tensor&, at::TensorList, at::IntArrayRef, at::TensorList,
      at::IntArrayRef, at::TensorList, at::IntArrayRef, at::TensorList, at::TensorList)>(
      "rtlynx::weight_product");
  const Lists lists = lists_of(layers);
  return op.call(x, low, lists.weights, outputs_of(layers), lists.ups, lists.low_starts,
                 lists.biases, lists.activations, lists.gates, lists.residuals);
}

void weight_product_out(const at::Tensor& x, const at::Tensor& low,
                        const std::vector<WeightLayer>& layers,
                        const std::vector<at::Tensor>& out) {
  static const auto op =
      find_op<void(const at::Tensor&, const at::Tensor&, at::TensorList, at::IntArrayRef,
                   at::TensorList, at::IntArrayRef, at::TensorList, at::IntArrayRef, at::TensorList,
                   at::TensorList, at::TensorList)>("rtlynx::weight_product_out");
  const Lists lists = lists_of(layers);
  op.call(x, low, lists.weights, outputs_of(layers), lists.ups, lists.low_starts, lists.biases,
          lists.activations, lists.gates, lists.residuals, out);
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
