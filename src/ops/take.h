// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ops/arguments.h"

/// How one tensor of an operator's arguments is checked and taken. Each function throws Error that
/// names the tensor; `held` keeps copies alive that the results lie in. Every call runs them for
/// each of its tensors: they ask torch for as little as they can.
namespace rtlynx::ops {

/// The tensor that says what type the others have and where they lie. Throws Error for a type that
/// the kernels do not take.
struct Reference {
  Reference(std::string_view op_, const Tensor& tensor_, std::int64_t alignment_)
      : op(op_),
        tensor(tensor_),
        alignment(alignment_),
        place(tensor_),
        dtype(dtype_of(op_, tensor_)) {}

  std::string_view op;
  const Tensor& tensor;
  std::int64_t alignment;
  TypeAndPlace place;
  DType dtype;
};

void require_like(const Reference& like, std::string_view name, const Tensor& tensor);
void require_fp32(const Reference& like, std::string_view name, const Tensor& tensor);

/// The view, its copy held.
MatrixView hold(Matrix matrix, std::vector<Tensor>& held);

/// A matrix of the reference's type, or none.
MatrixView take(const Reference& like, std::string_view name, const Tensor* tensor,
                std::vector<Tensor>& held);

/// The same of a matrix of e4m3, whose rows begin on as many bytes as those of 16-bit elements.
MatrixView take_codes(const Reference& like, const Tensor& tensor, std::vector<Tensor>& held);

/// A vector of the reference's type and of this length, or null.
const void* take_vector(const Reference& like, std::string_view name, const Tensor* tensor,
                        std::int64_t length, std::vector<Tensor>& held);

/// fp32 numbers, one behind the other.
const float* take_numbers(const Reference& like, const Tensor& tensor, std::vector<Tensor>& held);

/// What one row for each image says of how many tokens share it; all have to agree.
void settle_images(std::string_view op, std::string_view name, ConstMatrixView matrix,
                   std::int64_t tokens, std::int64_t& image_tokens);

/// For messages: "[2, 64]", "cuda:1".
std::string shape_text(const std::vector<std::int64_t>& shape);
std::string device_name(const Tensor& tensor);

std::int64_t product_of(const std::vector<std::int64_t>& sizes);

}  // namespace rtlynx::ops
