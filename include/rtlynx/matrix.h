// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "rtlynx/dtype.h"

namespace rtlynx {

/// A row-major matrix that someone else owns: element (m, k) lies at data + m * row_stride + k.
/// `rows`, `columns` and `row_stride` count elements, row_stride >= columns. A view without
/// elements may have null data.
struct ConstMatrixView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t row_stride = 0;
};

/// The same, writable. Outputs never overlap inputs unless a function says that they may.
struct MatrixView {
  void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t row_stride = 0;

  constexpr operator ConstMatrixView() const { return {data, dtype, rows, columns, row_stride}; }
};

/// A matrix whose rows lie end to end.
constexpr ConstMatrixView contiguous(const void* data, DType dtype, std::int64_t rows,
                                     std::int64_t columns) {
  return {data, dtype, rows, columns, columns};
}
constexpr MatrixView contiguous(void* data, DType dtype, std::int64_t rows, std::int64_t columns) {
  return {data, dtype, rows, columns, columns};
}

/// Rows [first, first + count) of a matrix, to split work between threads. Throws Error unless they
/// lie inside.
ConstMatrixView slice_rows(ConstMatrixView matrix, std::int64_t first, std::int64_t count);
MatrixView slice_rows(MatrixView matrix, std::int64_t first, std::int64_t count);

}  // namespace rtlynx
