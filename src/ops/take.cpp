// SPDX-License-Identifier: Apache-2.0
#include "ops/take.h"

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

/// The distance between the rows of a tensor whose last dimension is dense, if there is one.
std::optional<std::int64_t> row_stride_of(const Tensor& tensor) {
  const std::int64_t dims = tensor.dim();
  if (tensor.size(dims - 1) > 1 && tensor.stride(dims - 1) != 1) return std::nullopt;
  std::optional<std::int64_t> stride;  // of the rows
  std::int64_t expected = 0;           // of the next dimension
  for (std::int64_t i = dims - 2; i >= 0; --i) {
    if (tensor.size(i) == 1) continue;
    if (!stride) {
      stride = tensor.stride(i);
    } else if (tensor.stride(i) != expected) {
      return std::nullopt;
    }
    expected = tensor.stride(i) * tensor.size(i);
  }
  const std::int64_t columns = tensor.size(dims - 1);
  if (!stride) return columns;
  return *stride >= columns ? stride : std::nullopt;
}

bool is_aligned(const Tensor& tensor, std::int64_t alignment) {
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr());
  return alignment == 1 || address % 16 == 0;
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

namespace {

Matrix rows_of(std::string_view op, const Tensor& tensor, DType dtype, std::int64_t alignment) {
  if (tensor.dim() < 1) fail(op, "at least one dimension", describe(tensor));
  Matrix result{.tensor = tensor, .leading = tensor.sizes().vec(), .view = {}};
  result.leading.pop_back();
  const std::int64_t columns = tensor.size(tensor.dim() - 1);
  std::optional<std::int64_t> stride = row_stride_of(tensor);
  if (!stride || *stride % alignment != 0) {
    result.tensor = torch::stable::contiguous(tensor);
    stride = columns;
  }
  if (!is_aligned(result.tensor, alignment)) {
    result.tensor = torch::stable::clone(torch::stable::contiguous(result.tensor));
    stride = columns;
  }
  result.view = {const_cast<void*>(result.tensor.const_data_ptr()), dtype,
                 product_of(result.leading), columns, *stride};
  return result;
}

}  // namespace

Matrix matrix_of(std::string_view op, const Tensor& tensor, std::int64_t alignment) {
  return rows_of(op, tensor, dtype_of(op, tensor), alignment);
}

bool is_e4m3(const Tensor& tensor) { return tensor.scalar_type() == ScalarType::Float8_e4m3fn; }

Matrix codes_of(std::string_view op, const Tensor& tensor, std::int64_t alignment) {
  if (!is_e4m3(tensor)) fail(op, "e4m3", describe(tensor));
  // Of elements of one byte it takes twice as many to the same distance.
  return rows_of(op, tensor, DType::e4m3, alignment == 1 ? 1 : 2 * alignment);
}

void require_like(const Reference& like, std::string_view name, const Tensor& tensor) {
  if (tensor.scalar_type() == like.tensor.scalar_type() &&
      tensor.device() == like.tensor.device()) {
    return;
  }
  fail(like.op,
       std::string(name) + " of type " + type_name(like.tensor.scalar_type()) + " on " +
           device_name(like.tensor),
       describe(tensor));
}

void require_fp32(const Reference& like, std::string_view name, const Tensor& tensor) {
  if (tensor.scalar_type() == ScalarType::Float && tensor.device() == like.tensor.device()) return;
  fail(like.op, std::string(name) + " of type f32 on " + device_name(like.tensor),
       describe(tensor));
}

MatrixView take(const Reference& like, std::string_view name, const std::optional<Tensor>& tensor,
                std::vector<Tensor>& held) {
  if (!tensor) return {};
  require_like(like, name, *tensor);
  Matrix matrix = matrix_of(like.op, *tensor, like.alignment);
  held.push_back(matrix.tensor);
  return matrix.view;
}

const void* take_vector(const Reference& like, std::string_view name,
                        const std::optional<Tensor>& tensor, std::int64_t length,
                        std::vector<Tensor>& held) {
  if (!tensor) return nullptr;
  require_like(like, name, *tensor);
  if (tensor->dim() != 1 || tensor->size(0) != length) {
    fail(like.op, std::string(name) + " [" + std::to_string(length) + "]", describe(*tensor));
  }
  const MatrixView view = take(like, name, tensor, held);
  return view.data;
}

const float* take_numbers(const Reference& like, const Tensor& tensor, std::vector<Tensor>& held) {
  Tensor numbers = torch::stable::contiguous(tensor);
  if (!is_aligned(numbers, like.alignment)) numbers = torch::stable::clone(numbers);
  held.push_back(numbers);
  return static_cast<const float*>(numbers.const_data_ptr());
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
