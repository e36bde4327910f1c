// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ops/arguments.h"
#include "ops/guarded.h"

/// Registers the functions of a namespace `Implementation` for a dispatch key; schema.cpp has their
/// schemas.
#define RTLYNX_REGISTER_OPERATORS(KEY, Implementation)                                           \
  STABLE_TORCH_LIBRARY_IMPL(rtlynx, KEY, m) {                                                    \
    m.impl("sparsify24", TORCH_BOX(&rtlynx::ops::Guarded<&Implementation::sparsify24>::call));   \
    m.impl("pack", TORCH_BOX(&rtlynx::ops::Guarded<&Implementation::pack>::call));               \
    m.impl("product", TORCH_BOX(&rtlynx::ops::Guarded<&Implementation::product>::call));         \
    m.impl("product_out", TORCH_BOX(&rtlynx::ops::Guarded<&Implementation::product_out>::call)); \
    m.impl("pack_weight", TORCH_BOX(&rtlynx::ops::Guarded<&Implementation::pack_weight>::call)); \
    m.impl("weight_product",                                                                     \
           TORCH_BOX(&rtlynx::ops::Guarded<&Implementation::weight_product>::call));             \
    m.impl("weight_product_out",                                                                 \
           TORCH_BOX(&rtlynx::ops::Guarded<&Implementation::weight_product_out>::call));         \
    m.impl("linear24", TORCH_BOX(&rtlynx::ops::Guarded<&Implementation::linear24>::call));       \
    m.impl("residual_norm",                                                                      \
           TORCH_BOX(&rtlynx::ops::Guarded<&Implementation::residual_norm>::call));              \
    m.impl("head_norm", TORCH_BOX(&rtlynx::ops::Guarded<&Implementation::head_norm>::call));     \
    m.impl("swiglu", TORCH_BOX(&rtlynx::ops::Guarded<&Implementation::swiglu>::call));           \
  }

namespace rtlynx::ops {

/// linear24 as the arguments of pack and of product, which lie where those of the call do.
inline PackTensors pack_tensors(const Tensor& x, const std::optional<Tensor>& lora_down,
                                bool norm) {
  return {.x = x, .down = pointer_to(lora_down), .norm = norm, .op = "linear24"};
}

inline ProductTensors product_tensors(const Packed& packed, const Tensor& weight,
                                      const std::optional<Tensor>& bias,
                                      const std::optional<Tensor>& lora_up) {
  ProductTensors tensors{.operand = std::get<0>(packed),
                         .scale = std::get<1>(packed),
                         .low = std::get<2>(packed),
                         .weights = {&weight, 1},
                         .op = "linear24"};
  if (lora_up) tensors.ups = {&*lora_up, 1};
  if (bias) tensors.biases = {&*bias, 1};
  return tensors;
}

/// Throws Error unless both parts of a low rank are there, or none.
void check_low_rank(const std::optional<Tensor>& lora_down, const std::optional<Tensor>& lora_up);

}  // namespace rtlynx::ops
