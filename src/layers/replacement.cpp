// SPDX-License-Identifier: Apache-2.0
#include "layers/replacement.h"

#include <sstream>
#include <string>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr const char* kReplacement = "Replacement";

std::string shape_of(const torch::Tensor& tensor) {
  if (!tensor.defined()) return "none";
  std::ostringstream text;
  text << tensor.sizes();
  return text.str();
}

bool has_shape(const torch::Tensor& tensor, torch::IntArrayRef shape) {
  return tensor.defined() && tensor.sizes() == shape;
}

bool has_pattern(const torch::Tensor& weight, const torch::Tensor& axes) {
  if (!weight.defined() || axes.defined() || weight.size(1) % 4 != 0) return false;
  return weight.unflatten(1, {-1, 4}).ne(0).sum(-1).le(2).all().item<bool>();
}

// x [..., K] -> z [..., K h / g]
torch::Tensor project(const torch::Tensor& x, const torch::Tensor& axes) {
  const torch::Tensor grouped = x.reshape({-1, axes.size(0), axes.size(1)});
  // [K/g, M, h]: one product per block.
  const torch::Tensor z = torch::bmm(grouped.transpose(0, 1), axes).transpose(0, 1);
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = axes.size(0) * axes.size(2);
  return z.reshape(shape);
}

}  // namespace

double Replacement::relative_flops(std::int64_t in_features, std::int64_t out_features) const {
  const auto k = static_cast<double>(in_features), n = static_cast<double>(out_features);
  const double entries = weight.defined() ? static_cast<double>(weight.numel()) : 0.0;
  const double product = sparse ? entries / 2 : entries;
  const double projection = axes.defined() ? k * static_cast<double>(axes.size(2)) : 0.0;
  return (product + projection + static_cast<double>(rank()) * (k + n)) / (k * n);
}

torch::Tensor Replacement::forward(const torch::Tensor& x, const torch::Tensor& layer_bias) const {
  const torch::Tensor& added = bias.defined() ? bias : layer_bias;
  const torch::Tensor low =
      down.defined() ? torch::linear(torch::linear(x, down), up) : torch::Tensor();
  if (!weight.defined()) return added.defined() ? low + added : low;
  const torch::Tensor y = torch::linear(axes.defined() ? project(x, axes) : x, weight, added);
  return low.defined() ? y + low : y;
}

torch::Tensor Replacement::effective() const {
  const auto wide = [](const torch::Tensor& tensor) { return tensor.to(torch::kFloat64); };
  torch::Tensor sum;
  if (weight.defined()) sum = wide(weight);
  if (axes.defined()) {
    // W' P^T, block by block: [K/g, N, h] x [K/g, h, g].
    const torch::Tensor grouped = sum.unflatten(1, {axes.size(0), -1}).transpose(0, 1);
    sum = torch::bmm(grouped, wide(axes).transpose(1, 2)).transpose(0, 1).flatten(1);
  }
  if (!down.defined()) return sum;
  const torch::Tensor low = wide(up).matmul(wide(down));
  return sum.defined() ? sum + low : low;
}

void Replacement::check(std::int64_t in_features, std::int64_t out_features) const {
  const std::string n = std::to_string(out_features), k = std::to_string(in_features);
  require(weight.defined() || down.defined(), kReplacement, "a weight or a low rank", "neither");
  std::int64_t read = in_features;  // by the weight
  if (axes.defined()) {
    const bool fits = weight.defined() && axes.dim() == 3 && axes.size(2) <= axes.size(1) &&
                      axes.size(2) > 0 && axes.size(0) * axes.size(1) == in_features;
    if (!fits) {
      fail(kReplacement, "axes [K/g, g, h], h at most g, for K = " + k + ", and a weight",
           shape_of(axes));
    }
    read = axes.size(0) * axes.size(2);
  }
  if (weight.defined() && !has_shape(weight, {out_features, read})) {
    fail(kReplacement, "a weight [" + n + ", " + std::to_string(read) + "]", shape_of(weight));
  }
  if (sparse && !has_pattern(weight, axes)) {
    fail(kReplacement, "a weight [N, K] with at most 2 of every 4 entries", "one with more");
  }
  if (bias.defined() && !has_shape(bias, {out_features})) {
    fail(kReplacement, "a bias [" + n + "]", shape_of(bias));
  }
  if (!down.defined() && !up.defined()) return;
  const bool fits = down.defined() && up.defined() && down.dim() == 2 && up.dim() == 2 &&
                    has_shape(down, {up.size(1), in_features}) &&
                    has_shape(up, {out_features, down.size(0)});
  if (!fits) {
    fail(kReplacement, "down [r, " + k + "] and up [" + n + ", r]",
         shape_of(down) + " and " + shape_of(up));
  }
}

ReplacementHolderImpl::ReplacementHolderImpl(const Replacement& replacement,
                                             const torch::TensorOptions& options)
    : values(replacement) {
  const auto hold = [&](const char* name, torch::Tensor& value) {
    if (value.defined()) value = register_buffer(name, value.detach().to(options));
  };
  hold("axes", values.axes);
  hold("weight", values.weight);
  hold("down", values.down);
  hold("up", values.up);
  hold("bias", values.bias);
}

}  // namespace rtlynx
