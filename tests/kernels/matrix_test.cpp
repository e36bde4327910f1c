// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/matrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "kernels/spec/matrix.h"

namespace rtlynx {
namespace {

using ::testing::ThrowsMessage;

TEST(Matrix, SliceStartsAtItsFirstRow) {
  std::vector<std::uint16_t> data(5 * 8);
  const MatrixView matrix{data.data(), DType::bf16, 5, 6, 8};
  const MatrixView slice = slice_rows(matrix, 2, 3);
  EXPECT_EQ(slice.data, data.data() + 16);
  EXPECT_EQ(slice.rows, 3);
  EXPECT_EQ(slice.columns, 6);
  EXPECT_EQ(slice.row_stride, 8);
  EXPECT_EQ(slice.dtype, DType::bf16);
  EXPECT_EQ(slice_rows(ConstMatrixView(matrix), 2, 3).data, slice.data);
  EXPECT_EQ(slice_rows(matrix, 5, 0).rows, 0);
}

TEST(Matrix, SliceOutsideIsAnError) {
  const std::vector<float> data(4 * 2);
  const ConstMatrixView matrix = contiguous(data.data(), DType::f32, 4, 2);
  EXPECT_THAT([&] { slice_rows(matrix, 3, 2); },
              ThrowsMessage<Error>("slice_rows: required rows inside matrix [4, 2] f32, "
                                   "got 2 rows from row 3"));
  EXPECT_THROW(slice_rows(matrix, -1, 2), Error);
  EXPECT_THROW(slice_rows(matrix, 0, -1), Error);
  EXPECT_THROW(slice_rows(matrix, 1, INT64_MAX), Error);
}

TEST(Matrix, AViewMustMakeSense) {
  const float data[8] = {};
  const ConstMatrixView good{data, DType::f32, 2, 3, 4};
  const auto check = [](ConstMatrixView matrix) {
    return [matrix] { check_matrix("op", "X", matrix); };
  };
  EXPECT_NO_THROW(check(good)());
  EXPECT_NO_THROW(check({nullptr, DType::f32, 0, 3, 3})());

  ConstMatrixView bad = good;
  bad.row_stride = 2;
  EXPECT_THAT(check(bad), ThrowsMessage<Error>("op: required row_stride of X >= 3, got 2"));
  bad = good;
  bad.rows = -2;
  EXPECT_THAT(check(bad),
              ThrowsMessage<Error>("op: required X without negative sizes, got X [-2, 3] f32"));
  bad = good;
  bad.columns = -3;
  EXPECT_THAT(check(bad),
              ThrowsMessage<Error>("op: required X without negative sizes, got X [2, -3] f32"));
  bad = good;
  bad.data = nullptr;
  EXPECT_THAT(check(bad), ThrowsMessage<Error>("op: required data for X, "
                                               "got a null pointer with 6 elements"));
  bad = good;
  bad.dtype = static_cast<DType>(9);
  EXPECT_THAT(check(bad), ThrowsMessage<Error>("op: required X of f32, f16 or bf16, got dtype 9"));
}

}  // namespace
}  // namespace rtlynx
