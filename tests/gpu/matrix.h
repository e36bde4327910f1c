// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "gpu/gpu_test.h"
#include "rtlynx/matrix.h"

namespace rtlynx::testing {

/// The bits of 16-bit elements.
using Elements = std::vector<std::uint16_t>;

float widen(DType dtype, std::uint16_t bits);
std::uint16_t narrow(DType dtype, float value);

/// A unit in the last place of a value of this type.
double unit_at(DType dtype, double value);

/// 16-bit elements on the host, rows end to end.
struct Matrix {
  DType dtype = DType::bf16;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  Elements elements = {};

  std::size_t index(std::int64_t row, std::int64_t column) const {
    return static_cast<std::size_t>(row * columns + column);
  }
  float value(std::int64_t row, std::int64_t column) const {
    return widen(dtype, elements[index(row, column)]);
  }
  ConstMatrixView view() const {
    return contiguous(static_cast<const void*>(elements.data()), dtype, rows, columns);
  }
  MatrixView view() {
    return contiguous(static_cast<void*>(elements.data()), dtype, rows, columns);
  }
};

Matrix zeros(DType dtype, std::int64_t rows, std::int64_t columns);

/// Independent normal elements; the same seed gives the same.
Matrix normal_matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::uint32_t seed,
                     float deviation = 1.0f);

/// Integers from -largest to largest.
Matrix integer_matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::uint32_t seed,
                      int largest);

/// Rows of which each is hard in its own way: ties, NaN and their payloads, infinities, subnormals,
/// zeros, norms near both ends of the type's range. Row 0 is of kind `first_kind`.
Matrix hard_rows(DType dtype, std::int64_t rows, std::int64_t columns, int first_kind);

std::vector<float> uniform(std::int64_t count, std::uint32_t seed, float low, float high);

/// The elements as fp32, and their magnitudes.
std::vector<float> widened(const Matrix& matrix);
std::vector<float> magnitudes(const Matrix& matrix);

/// 16-bit elements in device memory. Rows may lie apart: between them, and around the whole, lies
/// NaN, which nobody may use, nor write over.
class DeviceMatrix {
 public:
  struct Layout {
    std::int64_t gap = 0;  // elements between rows
    std::size_t guard_after = 1024;
  };

  /// Poisoned, for a result.
  DeviceMatrix(DType dtype, std::int64_t rows, std::int64_t columns)
      : DeviceMatrix(dtype, rows, columns, Layout{}) {}
  DeviceMatrix(DType dtype, std::int64_t rows, std::int64_t columns, Layout layout);
  explicit DeviceMatrix(const Matrix& content) : DeviceMatrix(content, Layout{}) {}
  DeviceMatrix(const Matrix& content, Layout layout);

  MatrixView view() const;
  void write(const Matrix& content);
  void poison();
  Matrix read() const;
  bool guards_intact() const;

 private:
  std::size_t stride_bytes() const { return 2 * static_cast<std::size_t>(columns_ + gap_); }
  std::size_t row_bytes() const { return 2 * static_cast<std::size_t>(columns_); }

  DType dtype_;
  std::int64_t rows_;
  std::int64_t columns_;
  std::int64_t gap_;
  DeviceBuffer buffer_;
};

}  // namespace rtlynx::testing
