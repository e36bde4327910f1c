// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "rtlynx/dtype.h"

/// What the operators accept, the same on every device: each function here checks one operator's
/// arguments, throws Error naming what was required and what arrived, and returns them in the form
/// the kernels want.
namespace rtlynx::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

/// The results of the operators.
using Sparsified = std::tuple<Tensor, Tensor>;      // kept, scale
using Packed = std::tuple<Tensor, Tensor, Tensor>;  // values, metadata, scale

/// A tensor [.., columns] as the contiguous matrix [rows, columns] it stands for.
struct Rows {
  Tensor tensor;  // contiguous, of any rank
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::int64_t rows = 0;
  std::int64_t columns = 0;

  /// The shape with another last dimension.
  std::vector<std::int64_t> shape_with(std::int64_t last) const;
};

/// x of rank 1 or more, of a type the kernels take, the last dimension divisible by `divisor`.
Rows rows_of(std::string_view op, const Tensor& x, std::int64_t divisor);

struct Unpack24Arguments {
  Rows values;      // [.., K/2]
  Tensor metadata;  // [.., K/16] int16, contiguous
};
Unpack24Arguments unpack24_arguments(const Tensor& values, const Tensor& metadata);

struct Linear24Arguments {
  Rows x;                      // [.., K]
  Tensor weight;               // [N, K]
  std::optional<Tensor> bias;  // [N], contiguous
  std::optional<Tensor> down;  // [R, K], R > 0, with up or not at all
  std::optional<Tensor> up;    // [N, R]
  std::int64_t outputs = 0;    // N
};
/// Those of linear24 and linear24_auto.
Linear24Arguments linear24_arguments(std::string_view op, const Tensor& x, const Tensor& weight,
                                     const std::optional<Tensor>& bias,
                                     const std::optional<Tensor>& lora_down,
                                     const std::optional<Tensor>& lora_up);

/// "bf16 [2, 64] on cuda:1", for messages; "None" for a tensor that is none.
std::string describe(const Tensor& tensor);

}  // namespace rtlynx::ops
