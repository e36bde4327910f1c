// SPDX-License-Identifier: Apache-2.0
#include "kernels/spec/matrix.h"

#include "base/error.h"

namespace rtlynx {
namespace {

std::string shape(std::int64_t rows, std::int64_t columns) {
  std::string text("[");
  return text.append(std::to_string(rows)).append(", ").append(std::to_string(columns)).append("]");
}

void check_slice(ConstMatrixView matrix, std::int64_t first, std::int64_t count) {
  check_matrix("slice_rows", "matrix", matrix);
  if (first < 0 || count < 0 || first > matrix.rows - count) {
    fail("slice_rows", "rows inside " + describe("matrix", matrix),
         std::to_string(count) + " rows from row " + std::to_string(first));
  }
}

}  // namespace

std::string describe(std::string_view name, ConstMatrixView matrix) {
  return std::string(name) + " " + shape(matrix.rows, matrix.columns) + " " + name_of(matrix.dtype);
}

void check_data(std::string_view op, std::string_view name, const void* data, std::int64_t size) {
  if (data == nullptr && size > 0) {
    fail(op, "data for " + std::string(name),
         "a null pointer with " + std::to_string(size) + " elements");
  }
}

void check_matrix(std::string_view op, std::string_view name, ConstMatrixView matrix) {
  if (size_of(matrix.dtype) == 0) {
    fail(op, std::string(name) + " of f32, f16 or bf16",
         "dtype " + std::to_string(static_cast<int>(matrix.dtype)));
  }
  if (matrix.rows < 0 || matrix.columns < 0) {
    fail(op, std::string(name) + " without negative sizes", describe(name, matrix));
  }
  if (matrix.row_stride < matrix.columns) {
    fail(op, "row_stride of " + std::string(name) + " >= " + std::to_string(matrix.columns),
         std::to_string(matrix.row_stride));
  }
  check_data(op, name, matrix.data, matrix.rows * matrix.columns);
}

void check_matrix(std::string_view op, std::string_view name, ConstMatrixView matrix,
                  std::int64_t rows, std::int64_t columns, DType dtype) {
  if (matrix.rows != rows || matrix.columns != columns || matrix.dtype != dtype) {
    fail(op, std::string(name) + " " + shape(rows, columns) + " " + name_of(dtype),
         describe(name, matrix));
  }
  check_matrix(op, name, matrix);
}

void check_channels(std::string_view op, std::int64_t channels, int divisor) {
  if (channels % divisor != 0) {
    fail(op, "channels divisible by " + std::to_string(divisor), std::to_string(channels));
  }
}

ConstMatrixView slice_rows(ConstMatrixView matrix, std::int64_t first, std::int64_t count) {
  check_slice(matrix, first, count);
  if (matrix.data != nullptr) {
    matrix.data =
        static_cast<const char*>(matrix.data) + first * matrix.row_stride * size_of(matrix.dtype);
  }
  matrix.rows = count;
  return matrix;
}

MatrixView slice_rows(MatrixView matrix, std::int64_t first, std::int64_t count) {
  check_slice(matrix, first, count);
  if (matrix.data != nullptr) {
    matrix.data =
        static_cast<char*>(matrix.data) + first * matrix.row_stride * size_of(matrix.dtype);
  }
  matrix.rows = count;
  return matrix;
}

}  // namespace rtlynx
