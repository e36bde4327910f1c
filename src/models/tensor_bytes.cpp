// SPDX-License-Identifier: Apache-2.0
#include "models/tensor_bytes.h"

#include <array>
#include <cstring>

#include "base/error.h"

namespace rtlynx {
namespace {

constexpr std::array<std::pair<TensorDtype, torch::ScalarType>, 15> kTypes = {{
    {TensorDtype::kBool, torch::kBool},
    {TensorDtype::kU8, torch::kUInt8},
    {TensorDtype::kI8, torch::kInt8},
    {TensorDtype::kF8E5M2, torch::kFloat8_e5m2},
    {TensorDtype::kF8E4M3, torch::kFloat8_e4m3fn},
    {TensorDtype::kI16, torch::kInt16},
    {TensorDtype::kU16, torch::kUInt16},
    {TensorDtype::kF16, torch::kFloat16},
    {TensorDtype::kBF16, torch::kBFloat16},
    {TensorDtype::kI32, torch::kInt32},
    {TensorDtype::kU32, torch::kUInt32},
    {TensorDtype::kF32, torch::kFloat32},
    {TensorDtype::kF64, torch::kFloat64},
    {TensorDtype::kI64, torch::kInt64},
    {TensorDtype::kU64, torch::kUInt64},
}};

TensorDtype dtype_of(const std::string& name, torch::ScalarType type) {
  for (const auto& [dtype, known] : kTypes) {
    if (known == type) return dtype;
  }
  fail("safetensors", "a type that the format has, for tensor " + name, c10::toString(type));
}

}  // namespace

std::optional<torch::ScalarType> scalar_type_of(TensorDtype dtype) {
  for (const auto& [known, type] : kTypes) {
    if (known == dtype) return type;
  }
  return std::nullopt;
}

torch::Tensor copy_to_tensor(const TensorEntry& entry, const std::string& where) {
  const auto type = scalar_type_of(entry.dtype);
  if (!type) fail(where, "a type that torch has", std::string(dtype_name(entry.dtype)));
  torch::Tensor tensor = torch::empty(entry.shape, *type);
  if (!entry.bytes.empty()) {
    std::memcpy(tensor.mutable_data_ptr(), entry.bytes.data(), entry.bytes.size());
  }
  return tensor;
}

TensorBytes::TensorBytes(const std::vector<std::pair<std::string, torch::Tensor>>& tensors) {
  for (const auto& [name, tensor] : tensors) {
    const torch::Tensor held = tensor.detach().to(torch::kCPU).contiguous();
    kept_.push_back(held);
    entries_.push_back({.name = name,
                        .dtype = dtype_of(name, held.scalar_type()),
                        .shape = held.sizes().vec(),
                        .bytes = {static_cast<const std::byte*>(held.const_data_ptr()),
                                  static_cast<std::size_t>(held.nbytes())}});
  }
}

}  // namespace rtlynx
