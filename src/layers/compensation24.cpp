// SPDX-License-Identifier: Apache-2.0
#include "layers/compensation24.h"

#include <sstream>
#include <string>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr const char* kCompensation = "Compensation24";

std::string shape_of(const torch::Tensor& tensor) {
  if (!tensor.defined()) return "none";
  std::ostringstream text;
  text << tensor.sizes();
  return text.str();
}

std::string text_of(std::int64_t value) { return std::to_string(value); }

bool is_permutation(const torch::Tensor& permutation) {
  const torch::Tensor sorted = std::get<0>(permutation.sort());
  return sorted.equal(torch::arange(permutation.numel(), permutation.options()));
}

}  // namespace

void InputTransform::check(std::int64_t channels) const {
  const std::string k = text_of(channels);
  if (blocks.defined()) {
    require(!scale.defined() && !permutation.defined(), kCompensation,
            "a block transform, or a scale and a permutation", "both");
    const bool fits = blocks.dim() == 3 && blocks.size(1) == blocks.size(2) &&
                      blocks.size(0) * blocks.size(1) == channels;
    if (!fits) fail(kCompensation, "blocks [K/g, g, g] for K = " + k, shape_of(blocks));
  }
  if (scale.defined() && (scale.dim() != 1 || scale.size(0) != channels)) {
    fail(kCompensation, "a scale [" + k + "]", shape_of(scale));
  }
  if (!permutation.defined()) return;
  const bool fits = permutation.scalar_type() == torch::kInt64 && permutation.dim() == 1 &&
                    permutation.size(0) == channels && is_permutation(permutation);
  if (!fits) {
    fail(kCompensation, "a permutation of 0 to " + text_of(channels - 1) + ", int64",
         shape_of(permutation) + " that is none");
  }
}

InputTransform InputTransform::to(const torch::Device& device) const {
  const auto moved = [&](const torch::Tensor& tensor) {
    return tensor.defined() ? tensor.to(device) : tensor;
  };
  return {.blocks = moved(blocks), .scale = moved(scale), .permutation = moved(permutation)};
}

torch::Tensor InputTransform::apply(const torch::Tensor& x) const {
  if (blocks.defined()) {
    const torch::Tensor grouped = x.reshape({-1, blocks.size(0), blocks.size(1)});
    // [K/g, M, g]: one product per block.
    return torch::bmm(grouped.transpose(0, 1), blocks).transpose(0, 1).reshape(x.sizes());
  }
  torch::Tensor z = scale.defined() ? x * scale : x;
  return permutation.defined() ? z.index_select(-1, permutation.to(x.device())) : z;
}

torch::Tensor InputTransform::weight_for_z(const torch::Tensor& weight) const {
  const torch::Tensor exact = weight.detach().to(torch::kFloat64);
  if (blocks.defined()) {
    // Per block W_b A_b^-T, solved from the transposes.
    const torch::Tensor grouped = exact.unflatten(1, {blocks.size(0), -1}).permute({1, 2, 0});
    const torch::Tensor solved = torch::linalg_solve(blocks.to(torch::kFloat64), grouped);
    return solved.permute({2, 0, 1}).reshape(exact.sizes());
  }
  torch::Tensor out = exact;
  if (scale.defined()) {
    require(scale.ne(0).all().item<bool>(), kCompensation, "a scale without zeros", "a zero");
    out = out / scale.to(torch::kFloat64);
  }
  return permutation.defined() ? out.index_select(1, permutation.to(out.device())) : out;
}

torch::Tensor InputTransform::down_for_x(const torch::Tensor& down) const {
  if (!blocks.defined()) return down;
  const std::int64_t count = blocks.size(0), size = blocks.size(1);
  const torch::Tensor grouped =
      down.detach().to(torch::kFloat64).unflatten(1, {count, size}).transpose(0, 1);
  const torch::Tensor exact = torch::bmm(grouped, blocks.to(torch::kFloat64).transpose(1, 2));
  return exact.transpose(0, 1).reshape(down.sizes()).to(down.scalar_type());
}

void Compensation24::check(std::int64_t in_features, std::int64_t out_features) const {
  const std::string n = text_of(out_features), k = text_of(in_features);
  transform.check(in_features);
  if (weight.defined() && weight.sizes() != torch::IntArrayRef({out_features, in_features})) {
    fail(kCompensation, "a weight [" + n + ", " + k + "]", shape_of(weight));
  }
  if (bias.defined() && bias.sizes() != torch::IntArrayRef({out_features})) {
    fail(kCompensation, "a bias [" + n + "]", shape_of(bias));
  }
  if (!down.defined() && !up.defined()) return;
  const bool fits = down.defined() && up.defined() && down.dim() == 2 && up.dim() == 2 &&
                    down.size(1) == in_features && up.size(0) == out_features &&
                    down.size(0) == up.size(1);
  if (!fits) {
    fail(kCompensation, "down [r, " + k + "] and up [" + n + ", r]",
         shape_of(down) + " and " + shape_of(up));
  }
}

CompensationHolderImpl::CompensationHolderImpl(const Compensation24& compensation,
                                               const torch::TensorOptions& options)
    : values(compensation) {
  const auto hold = [&](const char* name, torch::Tensor& value) {
    if (value.defined()) value = register_buffer(name, value.detach().to(options));
  };
  hold("transform", values.transform.blocks);
  hold("scale", values.transform.scale);
  hold("weight", values.weight);
  hold("down", values.down);
  hold("up", values.up);
  hold("bias", values.bias);
  if (values.transform.permutation.defined()) {
    values.transform.permutation = values.transform.permutation.to(options.device());
  }
}

}  // namespace rtlynx
