// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "rtlynx/matrix.h"

namespace rtlynx {

template <typename T>
const T* row_of(ConstMatrixView matrix, std::int64_t row) {
  return static_cast<const T*>(matrix.data) + row * matrix.row_stride;
}
template <typename T>
T* row_of(MatrixView matrix, std::int64_t row) {
  return static_cast<T*>(matrix.data) + row * matrix.row_stride;
}

/// "X [4, 20] bf16"
std::string describe(std::string_view name, ConstMatrixView matrix);

/// Throws Error unless the view makes sense by itself: sizes, stride, data, element type.
void check_matrix(std::string_view op, std::string_view name, ConstMatrixView matrix);

/// check_matrix, and the shape and element type must be these.
void check_matrix(std::string_view op, std::string_view name, ConstMatrixView matrix,
                  std::int64_t rows, std::int64_t columns, DType dtype);

/// Throws Error unless `channels`, the columns of X, are divisible by `divisor`.
void check_channels(std::string_view op, std::int64_t channels, int divisor);

/// Throws Error if `data` is null although there are elements to read or write.
void check_data(std::string_view op, std::string_view name, const void* data, std::int64_t size);

/// Throws Error unless the metadata [tokens, channels/16] (rtlynx/compress24.h) is there and holds
/// patterns that hardware accepts, naming the row and group of one that is none.
void check_metadata24(std::string_view op, const std::uint16_t* metadata, std::int64_t tokens,
                      std::int64_t channels);

}  // namespace rtlynx
