// SPDX-License-Identifier: Apache-2.0
#include "layers/sparse_linear.h"

#include <array>
#include <optional>
#include <string>

#include "base/error.h"
#include "layers/differentiable24.h"
#include "layers/e4m3.h"

namespace rtlynx {
namespace {

constexpr std::array<std::pair<LinearMode, std::string_view>, 5> kModeNames = {{
    {LinearMode::dense, "dense"},
    {LinearMode::naive, "naive"},
    {LinearMode::norm, "norm"},
    {LinearMode::compensated, "compensated"},
    {LinearMode::replaced, "replaced"},
}};

std::optional<torch::Tensor> if_defined(const torch::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

bool needs_gradient(const std::optional<torch::Tensor>& tensor) {
  return tensor && tensor->requires_grad();
}

bool needs_gradient(const torch::Tensor& x, const ops::Linear24Weights& weights) {
  return torch::GradMode::is_enabled() &&
         (x.requires_grad() || weights.weight.requires_grad() || needs_gradient(weights.bias) ||
          needs_gradient(weights.lora_down) || needs_gradient(weights.lora_up));
}

}  // namespace

std::string_view to_string(LinearMode mode) {
  for (const auto& [known, name] : kModeNames) {
    if (known == mode) return name;
  }
  fail("LinearMode", "one of the enumerators", std::to_string(static_cast<int>(mode)));
}

LinearMode linear_mode_from_string(std::string_view text) {
  for (const auto& [mode, name] : kModeNames) {
    if (name == text) return mode;
  }
  throw UsageError("mode: required dense, naive, norm, compensated or replaced, got " +
                   std::string(text));
}

SparseLinearImpl::SparseLinearImpl(std::int64_t in_features, std::int64_t out_features,
                                   const torch::TensorOptions& options, bool with_bias) {
  weight = register_parameter("weight", torch::empty({out_features, in_features}, options));
  if (with_bias) bias = register_parameter("bias", torch::empty({out_features}, options));
}

torch::Tensor SparseLinearImpl::forward(const torch::Tensor& x) {
  if (observer_) observer_(x);
  switch (mode_) {
    case LinearMode::dense:
      return torch::linear(x, weight, bias);
    case LinearMode::replaced:
      return replacement_->values.forward(x, bias);
    case LinearMode::compensated:
      return forward_compensated(x);
    case LinearMode::naive:
    case LinearMode::norm:
      break;
  }
  const ops::Linear24Weights weights{
      .weight = weight, .bias = if_defined(bias), .lora_down = {}, .lora_up = {}};
  return forward_sparse(x, weights, mode_ == LinearMode::norm);
}

torch::Tensor SparseLinearImpl::forward_sparse(const torch::Tensor& x,
                                               const ops::Linear24Weights& weights,
                                               bool norm) const {
  if (needs_gradient(x, weights)) return differentiable_linear24(x, weights, norm);
  return ops::linear24(x, weights, norm);
}

LinearForm SparseLinearImpl::form() const {
  LinearForm form{.weight = weight, .bias = bias};
  switch (mode_) {
    case LinearMode::dense:
      break;
    case LinearMode::naive:
    case LinearMode::norm:
      form.side = SparseSide::activation;
      form.norm = mode_ == LinearMode::norm;
      break;
    case LinearMode::compensated: {
      const Compensation24& with = compensation_->values;
      form = {.side = SparseSide::activation,
              .norm = with.norm,
              .transform = with.transform,
              .weight = with.weight.defined() ? with.weight : weight,
              .bias = with.bias.defined() ? with.bias : bias,
              .down = with.down,
              .up = with.up,
              .e4m3 = with.e4m3};
      break;
    }
    case LinearMode::replaced:
      if (replacement_->values.sparse) form.side = SparseSide::weight;
      break;
  }
  return form;
}

torch::Tensor SparseLinearImpl::forward_compensated(const torch::Tensor& x) const {
  const Compensation24& with = compensation_->values;
  const ops::Linear24Weights weights{.weight = with.weight.defined() ? with.weight : weight,
                                     .bias = if_defined(with.bias.defined() ? with.bias : bias),
                                     .lora_down = if_defined(with.down),
                                     .lora_up = if_defined(with.up)};
  const torch::Tensor z = with.transform.apply(x);
  return with.e4m3 ? forward_e4m3(z, weights, with.norm) : forward_sparse(z, weights, with.norm);
}

torch::Tensor SparseLinearImpl::forward_e4m3(const torch::Tensor& z,
                                             const ops::Linear24Weights& weights, bool norm) const {
  const double unit = e4m3_unit({weights.weight});
  ops::PackOptions options{.norm = norm, .e4m3_unit = unit};
  ops::ProductLayer layer{.weight = to_e4m3(weights.weight, unit)};
  if (weights.bias) layer.bias = *weights.bias;
  if (weights.lora_down) {
    options.down = padded_rank(*weights.lora_down, 0);
    layer.up = padded_rank(*weights.lora_up, 1) / unit;
  }
  return ops::product(ops::pack(z, options), {layer}).front();
}

void SparseLinearImpl::set_mode(LinearMode mode) {
  const bool chooses = mode != LinearMode::dense && mode != LinearMode::replaced;
  if (chooses && in_features() % 16 != 0) {
    fail("SparseLinear", "input channels divisible by 16 for a 2:4 mode",
         std::to_string(in_features()));
  }
  require(mode != LinearMode::compensated || !compensation_.is_empty(), "SparseLinear",
          "a compensation set by set_compensation", "none");
  require(mode != LinearMode::replaced || !replacement_.is_empty(), "SparseLinear",
          "a replacement set by set_replacement", "none");
  mode_ = mode;
}

void SparseLinearImpl::set_compensation(const Compensation24& compensation) {
  constexpr const char* kChild = "compensation";
  compensation.check(in_features(), out_features());
  Compensation24 values = compensation;
  if (!values.weight.defined() && !values.transform.is_identity()) {
    values.weight = values.transform.to(weight.device()).weight_for_z(weight);
  }
  if (!compensation_.is_empty()) unregister_module(kChild);
  compensation_ =
      register_module(kChild, CompensationHolder(values, weight.options().requires_grad(false)));
}

const Compensation24* SparseLinearImpl::compensation() const {
  return compensation_.is_empty() ? nullptr : &compensation_->values;
}

const Replacement* SparseLinearImpl::replacement() const {
  return replacement_.is_empty() ? nullptr : &replacement_->values;
}

void SparseLinearImpl::set_replacement(const Replacement& replacement) {
  constexpr const char* kChild = "replacement";
  replacement.check(in_features(), out_features());
  if (!replacement_.is_empty()) unregister_module(kChild);
  replacement_ = register_module(
      kChild, ReplacementHolder(replacement, weight.options().requires_grad(false)));
}

}  // namespace rtlynx
