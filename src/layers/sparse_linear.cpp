// SPDX-License-Identifier: Apache-2.0
#include "layers/sparse_linear.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <array>
#include <optional>
#include <utility>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr std::array<std::pair<LinearMode, std::string_view>, 4> kModeNames = {{
    {LinearMode::dense, "dense"},
    {LinearMode::naive, "naive"},
    {LinearMode::norm, "norm"},
    {LinearMode::norm_low_rank, "norm+low-rank"},
}};

// The signature of rtlynx::linear24 as registered in src/ops.
using Linear24 = torch::Tensor(const torch::Tensor& x, const torch::Tensor& weight,
                               const std::optional<torch::Tensor>& bias,
                               const std::optional<torch::Tensor>& lora_down,
                               const std::optional<torch::Tensor>& lora_up, bool norm);

const c10::TypedOperatorHandle<Linear24>& linear24_op() {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("rtlynx::linear24", "").typed<Linear24>();
  return op;
}

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
  if (mode_ == LinearMode::dense) return torch::linear(x, weight, bias);
  const bool low_rank = mode_ == LinearMode::norm_low_rank;
  return linear24_op().call(x, weight, if_defined(bias),
                            low_rank ? if_defined(low_rank_down_) : std::nullopt,
                            low_rank ? if_defined(low_rank_up_) : std::nullopt,
                            /*norm=*/mode_ != LinearMode::naive);
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
  low_rank_down_ = down.to(weight.options());
  low_rank_up_ = up.to(weight.options());
}

}  // namespace rtlynx
