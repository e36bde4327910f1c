// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "ops/aten.h"

/// Linear algebra of torch for the closed forms, by the stable ABI.
namespace rtlynx::ops {

inline Tensor mm(const Tensor& a, const Tensor& b) { return call_aten("aten::mm", "", a, b); }
inline Tensor transposed(const Tensor& a) { return with_swapped(a, 0, 1); }

/// One fp64 value beside a tensor, to calculate with.
inline Tensor number(const Tensor& like, double value) {
  Tensor result = empty_like_device(like, {1}, ScalarType::Double);
  return torch::stable::fill_(result, value);
}

inline double value_of(const Tensor& scalar) {
  const Tensor host = torch::stable::to(torch::stable::to(scalar, ScalarType::Double),
                                        torch::stable::Device(torch::headeronly::DeviceType::CPU));
  return *host.const_data_ptr<double>();
}

/// Of a matrix, or of a stack of them.
inline Tensor symmetrised(const Tensor& a) {
  return times(plus(a, with_swapped(a, -2, -1)), number(a, 0.5));
}

/// The two results of an operator with one option.
template <typename Option>
std::pair<Tensor, Tensor> decompose(const char* name, const Tensor& a, const Option& option) {
  std::array<StableIValue, 2> stack{torch::stable::detail::from(a),
                                    torch::stable::detail::from(option)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION));
  return {torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

/// The diagonals of the last two dimensions, as a view.
inline Tensor diagonal_of(const Tensor& a) {
  return call_aten("aten::diagonal", "", a, std::int64_t{0}, std::int64_t{-2}, std::int64_t{-1});
}

inline Tensor mean_of(const Tensor& a) {
  return call_aten("aten::mean", "", a, std::optional<ScalarType>());
}

/// Adds to the diagonal, in place.
inline void add_to_diagonal(Tensor& a, const Tensor& value) {
  Tensor diagonal = diagonal_of(a);
  torch::stable::copy_(diagonal, plus(diagonal, value));
}

}  // namespace rtlynx::ops
