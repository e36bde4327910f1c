// SPDX-License-Identifier: Apache-2.0
#include "ops/take.h"

#include <optional>
#include <utility>

#include "base/error.h"

namespace rtlynx::ops {
namespace {

std::optional<DType> known_dtype(ScalarType type) {
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
  if (type == ScalarType::Float8_e4m3fn) return name_of(DType::e4m3);
  if (const auto dtype = known_dtype(type)) return name_of(*dtype);
  return torch::headeronly::toString(type);
}

using SizesView = torch::headeronly::IntHeaderOnlyArrayRef;

/// The distance between the rows of a tensor whose last dimension is dense, if there is one.
std::optional<std::int64_t> row_stride_of(SizesView sizes, SizesView strides) {
  const std::size_t last = sizes.size() - 1;
  if (sizes[last] > 1 && strides[last] != 1) return std::nullopt;
  std::optional<std::int64_t> stride;  // of the rows
  std::int64_t expected = 0;           // of the next dimension
  for (std::size_t i = last; i-- > 0;) {
    if (sizes[i] == 1) continue;
    if (!stride) {
      stride = strides[i];
    } else if (strides[i] != expected) {
      return std::nullopt;
    }
    expected = strides[i] * sizes[i];
  }
  const std::int64_t columns = sizes[last];
  if (!stride) return columns;
  return *stride >= columns ? stride : std::nullopt;
}

bool is_aligned(const void* data, std::int64_t alignment) {
  return alignment == 1 || reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}

/// How many tokens share one of `images` rows.
std::int64_t tokens_of_image(std::string_view op, std::string_view name, std::int64_t tokens,
                             std::int64_t images) {
  if (images > 0 && tokens % images == 0) return tokens / images;
  fail(op,
       std::string(name) + " of one row for every image of equally many of the " +
           std::to_string(tokens) + " tokens",
       std::to_string(images) + " rows");
}

}  // namespace

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

std::int64_t product_of(const std::vector<std::int64_t>& sizes) {
  std::int64_t product = 1;
  for (const std::int64_t size : sizes) product *= size;
  return product;
}

std::string describe(const Tensor& tensor) {
  return type_name(tensor.scalar_type()) + " " + shape_text(tensor.sizes().vec()) + " on " +
         device_name(tensor);
}

DType dtype_of(std::string_view op, const Tensor& tensor) {
  const auto dtype = known_dtype(tensor.scalar_type());
  if (!dtype) fail(op, "f32, f16 or bf16", describe(tensor));
  return *dtype;
}

std::vector<std::int64_t> with_last(std::vector<std::int64_t> sizes, std::int64_t last) {
  sizes.push_back(last);
  return sizes;
}

std::vector<std::int64_t> leading_of(const Tensor& tensor) {
  std::vector<std::int64_t> sizes = tensor.sizes().vec();
  if (!sizes.empty()) sizes.pop_back();
  return sizes;
}

namespace {

Matrix rows_of(std::string_view op, const Tensor& tensor, DType dtype, std::int64_t alignment) {
  const SizesView sizes = tensor.sizes();
  if (sizes.size() < 1) fail(op, "at least one dimension", describe(tensor));
  const std::int64_t columns = sizes[sizes.size() - 1];
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < sizes.size(); ++i) rows *= sizes[i];
  Matrix result{.view = {const_cast<void*>(tensor.const_data_ptr()), dtype, rows, columns, columns},
                .copy = {}};
  const std::optional<std::int64_t> stride = row_stride_of(sizes, tensor.strides());
  const bool fits = stride && *stride % alignment == 0;
  if (fits && is_aligned(result.view.data, alignment)) {
    result.view.row_stride = *stride;
    return result;
  }
  Tensor copy = torch::stable::contiguous(tensor);
  if (!is_aligned(copy.const_data_ptr(), alignment)) copy = torch::stable::clone(copy);
  result.view.data = const_cast<void*>(copy.const_data_ptr());
  result.copy = std::move(copy);
  return result;
}

}  // namespace

Matrix matrix_of(std::string_view op, const Tensor& tensor, std::int64_t alignment) {
  return rows_of(op, tensor, dtype_of(op, tensor), alignment);
}

bool is_e4m3(const Tensor& tensor) {
  return TypeAndPlace(tensor).type == aoti_torch_dtype_float8_e4m3fn();
}

void require_like(const Reference& like, std::string_view name, const Tensor& tensor) {
  if (TypeAndPlace(tensor) == like.place) return;
  fail(like.op,
       std::string(name) + " of type " + name_of(like.dtype) + " on " + device_name(like.tensor),
       describe(tensor));
}

void require_fp32(const Reference& like, std::string_view name, const Tensor& tensor) {
  const TypeAndPlace place(tensor);
  if (place.type == aoti_torch_dtype_float32() && place.same_place(like.place)) return;
  fail(like.op, std::string(name) + " of type f32 on " + device_name(like.tensor),
       describe(tensor));
}

MatrixView hold(Matrix matrix, std::vector<Tensor>& held) {
  if (matrix.copy) held.push_back(std::move(*matrix.copy));
  return matrix.view;
}

MatrixView take(const Reference& like, std::string_view name, const Tensor* tensor,
                std::vector<Tensor>& held) {
  if (tensor == nullptr) return {};
  require_like(like, name, *tensor);
  return hold(rows_of(like.op, *tensor, like.dtype, like.alignment), held);
}

MatrixView take_codes(const Reference& like, const Tensor& tensor, std::vector<Tensor>& held) {
  // Of elements of one byte it takes twice as many to the same distance.
  const std::int64_t alignment = like.alignment == 1 ? 1 : 2 * like.alignment;
  return hold(rows_of(like.op, tensor, DType::e4m3, alignment), held);
}

const void* take_vector(const Reference& like, std::string_view name, const Tensor* tensor,
                        std::int64_t length, std::vector<Tensor>& held) {
  if (tensor == nullptr) return nullptr;
  require_like(like, name, *tensor);
  if (tensor->dim() != 1 || tensor->size(0) != length) {
    fail(like.op, std::string(name) + " [" + std::to_string(length) + "]", describe(*tensor));
  }
  return hold(rows_of(like.op, *tensor, like.dtype, like.alignment), held).data;
}

const float* take_numbers(const Reference& like, const Tensor& tensor, std::vector<Tensor>& held) {
  const void* data = tensor.const_data_ptr();
  if (!tensor.is_contiguous() || !is_aligned(data, like.alignment)) {
    Tensor copy = torch::stable::contiguous(tensor);
    if (!is_aligned(copy.const_data_ptr(), like.alignment)) copy = torch::stable::clone(copy);
    data = copy.const_data_ptr();
    held.push_back(std::move(copy));
  }
  return static_cast<const float*>(data);
}

void settle_images(std::string_view op, std::string_view name, ConstMatrixView matrix,
                   std::int64_t tokens, std::int64_t& image_tokens) {
  if (matrix.rows == 0 || tokens == 0) return;
  const std::int64_t shared = tokens_of_image(op, name, tokens, matrix.rows);
  if (image_tokens != 0 && image_tokens != shared) {
    fail(op, std::string(name) + " of " + std::to_string(tokens / image_tokens) + " rows",
         std::to_string(matrix.rows));
  }
  image_tokens = shared;
}

}  // namespace rtlynx::ops
