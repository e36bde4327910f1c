// SPDX-License-Identifier: Apache-2.0
#include "ops/arguments.h"

#include <torch/csrc/stable/ops.h>

#include <string>
#include <utility>

#include "base/error.h"

namespace rtlynx::ops {
namespace {

std::optional<DType> dtype_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return DType::f32;
    case ScalarType::Half:
      return DType::f16;
    case ScalarType::BFloat16:
      return DType::bf16;
    default:
      return std::nullopt;
  }
}

std::string type_name(ScalarType type) {
  if (const auto dtype = dtype_of(type)) return name_of(*dtype);
  return torch::headeronly::toString(type);
}

std::string device_name(const Tensor& tensor) {
  if (tensor.is_cpu()) return "cpu";
  const std::string index = std::to_string(tensor.get_device_index());
  return tensor.is_cuda() ? "cuda:" + index : "another device:" + index;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

/// An argument that goes with x: same type, same device, exactly this shape.
void require_like(std::string_view op, std::string_view name, const Tensor& tensor, const Rows& x,
                  const std::vector<std::int64_t>& shape) {
  if (tensor.defined() && tensor.scalar_type() == x.tensor.scalar_type() &&
      tensor.device() == x.tensor.device() && tensor.sizes().vec() == shape) {
    return;
  }
  fail(op,
       std::string(name) + " " + name_of(x.dtype) + " " + shape_text(shape) + " on " +
           device_name(x.tensor) + " to go with x",
       describe(tensor));
}

}  // namespace

std::string describe(const Tensor& tensor) {
  if (!tensor.defined()) return "None";
  return type_name(tensor.scalar_type()) + " " + shape_text(tensor.sizes().vec()) + " on " +
         device_name(tensor);
}

std::vector<std::int64_t> Rows::shape_with(std::int64_t last) const {
  std::vector<std::int64_t> result = shape;
  result.back() = last;
  return result;
}

Rows rows_of(std::string_view op, const Tensor& x, std::int64_t divisor) {
  if (!x.defined()) fail(op, "a tensor", describe(x));
  const auto dtype = dtype_of(x.scalar_type());
  if (!dtype) fail(op, "f32, f16 or bf16", describe(x));
  if (x.dim() < 1) fail(op, "at least one dimension", describe(x));
  Rows result;
  result.shape = x.sizes().vec();
  result.columns = result.shape.back();
  if (result.columns % divisor != 0) {
    fail(op, "a last dimension divisible by " + std::to_string(divisor), describe(x));
  }
  result.dtype = *dtype;
  result.rows = 1;
  for (std::size_t i = 0; i + 1 < result.shape.size(); ++i) result.rows *= result.shape[i];
  result.tensor = torch::stable::contiguous(x);
  return result;
}

Unpack24Arguments unpack24_arguments(const Tensor& values, const Tensor& metadata) {
  Unpack24Arguments result{.values = rows_of("unpack24", values, 8), .metadata = metadata};
  const std::vector<std::int64_t> shape = result.values.shape_with(result.values.columns / 8);
  if (!metadata.defined() || metadata.scalar_type() != ScalarType::Short ||
      metadata.device() != values.device() || metadata.sizes().vec() != shape) {
    fail("unpack24",
         "metadata Short (int16) " + shape_text(shape) + " on " + device_name(values) +
             " to go with values " + describe(values),
         describe(metadata));
  }
  result.metadata = torch::stable::contiguous(metadata);
  return result;
}

Linear24Arguments linear24_arguments(std::string_view op, const Tensor& x, const Tensor& weight,
                                     const std::optional<Tensor>& bias,
                                     const std::optional<Tensor>& lora_down,
                                     const std::optional<Tensor>& lora_up) {
  Linear24Arguments result{.x = rows_of(op, x, 4), .weight = weight};
  if (!weight.defined() || weight.dim() != 2) fail(op, "weight [N, K]", describe(weight));
  result.outputs = weight.size(0);
  require_like(op, "weight", weight, result.x, {result.outputs, result.x.columns});
  if (bias) {
    require_like(op, "bias", *bias, result.x, {result.outputs});
    result.bias = torch::stable::contiguous(*bias);
  }
  if (lora_down.has_value() != lora_up.has_value()) {
    fail(op, "lora_down and lora_up together or neither",
         lora_down ? "lora_down alone" : "lora_up alone");
  }
  if (lora_down) {
    if (!lora_down->defined() || lora_down->dim() != 2)
      fail(op, "lora_down [R, K]", describe(*lora_down));
    const std::int64_t rank = lora_down->size(0);
    require_like(op, "lora_down", *lora_down, result.x, {rank, result.x.columns});
    require_like(op, "lora_up", *lora_up, result.x, {result.outputs, rank});
    if (rank > 0) {
      result.down = lora_down;
      result.up = lora_up;
    }
  }
  return result;
}

}  // namespace rtlynx::ops
