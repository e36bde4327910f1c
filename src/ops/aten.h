// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

/// What the stable ABI lacks and the operators need of torch.
namespace rtlynx::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

/// Within it torch records no gradients: the operators call torch on their arguments, which may
/// require them.
class NoGrad {
 public:
  NoGrad() { aoti_torch_grad_mode_set_enabled(false); }
  ~NoGrad() { aoti_torch_grad_mode_set_enabled(before_); }
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_ = aoti_torch_grad_mode_is_enabled();
};

/// Calls an operator; its first result, a tensor, is returned.
template <typename... Arguments>
Tensor call_aten(const char* name, const char* overload, const Arguments&... arguments) {
  std::array<StableIValue, sizeof...(arguments)> stack{torch::stable::detail::from(arguments)...};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, overload, stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// Elementwise arithmetic with broadcasting.
inline Tensor plus(const Tensor& a, const Tensor& b) {
  return torch::stable::subtract(a, b, -1.0);  // the stable ABI has no sum
}
inline Tensor minus(const Tensor& a, const Tensor& b) { return torch::stable::subtract(a, b); }
inline Tensor times(const Tensor& a, const Tensor& b) {
  return call_aten("aten::mul", "Tensor", a, b);
}
inline Tensor over(const Tensor& a, const Tensor& b) {
  return call_aten("aten::div", "Tensor", a, b);
}
inline Tensor gelu_tanh(const Tensor& x) {
  return call_aten("aten::gelu", "", x, std::string("tanh"));
}

inline Tensor with_swapped(const Tensor& x, std::int64_t a, std::int64_t b) {
  return call_aten("aten::transpose", "int", x, a, b);
}
/// Columns [first, first + count) of a matrix.
inline Tensor columns_of(const Tensor& x, std::int64_t first, std::int64_t count) {
  return call_aten("aten::narrow", "", x, std::int64_t{1}, first, count);
}

inline Tensor to_float(const Tensor& tensor) {
  return torch::stable::to(tensor, ScalarType::Float);
}

/// The tensor itself if it is contiguous: torch's own function goes through the dispatcher first.
inline Tensor as_contiguous(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

/// What two tensors of a call have to share, in the stable ABI's own numbers, which cost nothing to
/// compare.
struct TypeAndPlace {
  std::int32_t type = 0, device_type = 0, device_index = 0;

  explicit TypeAndPlace(const Tensor& tensor) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(tensor.get(), &type));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor.get(), &device_type));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(tensor.get(), &device_index));
  }
  bool same_place(const TypeAndPlace& other) const {
    return device_type == other.device_type && device_index == other.device_index;
  }
  bool operator==(const TypeAndPlace&) const = default;
};

/// Uninitialised and contiguous: without a boxed call, which takes longer than the allocation.
inline Tensor empty_like_device(const Tensor& like, const std::vector<std::int64_t>& sizes,
                                ScalarType type) {
  std::vector<std::int64_t> strides(sizes.size(), 1);
  for (std::size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * sizes[i];
  const auto stable_type =
      torch::stable::detail::to<std::int32_t>(torch::stable::detail::from(type));
  const TypeAndPlace place(like);
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<std::int64_t>(sizes.size()),
                                                  sizes.data(), strides.data(), stable_type,
                                                  place.device_type, place.device_index, &handle));
  return Tensor(handle);
}

}  // namespace rtlynx::ops
