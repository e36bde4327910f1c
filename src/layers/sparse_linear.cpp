// SPDX-License-Identifier: Apache-2.0
#include "layers/sparse_linear.h"

#include <array>
#include <optional>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "ops/ops.h"

namespace rtlynx {
namespace {

constexpr std::array<std::pair<LinearMode, std::string_view>, 4> kModeNames = {{
    {LinearMode::dense, "dense"},
    {LinearMode::naive, "naive"},
    {LinearMode::norm, "norm"},
    {LinearMode::norm_low_rank, "norm+low-rank"},
}};

std::optional<torch::Tensor> if_defined(const torch::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

std::string shape_of(const torch::Tensor& tensor) {
  std::ostringstream text;
  text << tensor.sizes();
  return text.str();
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
  throw UsageError("mode: required dense, naive, norm or norm+low-rank, got " + std::string(text));
}

SparseLinearImpl::SparseLinearImpl(std::int64_t in_features, std::int64_t out_features,
                                   const torch::TensorOptions& options, bool with_bias) {
  weight = register_parameter("weight", torch::empty({out_features, in_features}, options));
  if (with_bias) bias = register_parameter("bias", torch::empty({out_features}, options));
}

torch::Tensor SparseLinearImpl::forward(const torch::Tensor& x) {
  if (observer_) observer_(x);
  if (mode_ == LinearMode::dense) return torch::linear(x, weight, bias);
  const bool low_rank = mode_ == LinearMode::norm_low_rank;
  const ops::Linear24Weights weights{
      .weight = weight,
      .bias = if_defined(bias),
      .lora_down = low_rank ? if_defined(low_rank_down_) : std::nullopt,
      .lora_up = low_rank ? if_defined(low_rank_up_) : std::nullopt};
  const bool norm = mode_ != LinearMode::naive;
  return dense_where_faster_ ? ops::linear24_auto(x, weights, norm)
                             : ops::linear24(x, weights, norm);
}

void SparseLinearImpl::set_mode(LinearMode mode) {
  if (mode != LinearMode::dense && in_features() % 4 != 0) {
    fail("SparseLinear", "input channels divisible by 4 for a 2:4 mode",
         std::to_string(in_features()));
  }
  if (mode == LinearMode::norm_low_rank) {
    require(low_rank_down_.defined(), "SparseLinear", "low-rank factors set by set_low_rank",
            "none");
  }
  mode_ = mode;
}

void SparseLinearImpl::set_low_rank(const torch::Tensor& down, const torch::Tensor& up) {
  const bool fits = down.dim() == 2 && up.dim() == 2 && down.size(1) == in_features() &&
                    up.size(0) == out_features() && down.size(0) == up.size(1);
  if (!fits) {
    fail("SparseLinear",
         "down [r, " + std::to_string(in_features()) + "] and up [" +
             std::to_string(out_features()) + ", r]",
         shape_of(down) + " and " + shape_of(up));
  }
  // Buffers follow the module to another device or type.
  const auto store = [&](const char* name, torch::Tensor& buffer, const torch::Tensor& value) {
    const torch::Tensor converted = value.detach().to(weight.options().requires_grad(false));
    if (buffer.defined()) {
      buffer.set_data(converted);
    } else {
      buffer = register_buffer(name, converted);
    }
  };
  store("low_rank_down", low_rank_down_, down);
  store("low_rank_up", low_rank_up_, up);
}

}  // namespace rtlynx
