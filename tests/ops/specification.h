// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "ops/ops.h"
#include "rtlynx/dtype.h"
#include "rtlynx/matrix.h"

/// The specification (src/kernels/spec) on the operators' arguments. They may lie on any device and
/// with any strides; what comes back is contiguous, on the CPU.
namespace rtlynx::testing {

at::ScalarType scalar_type(DType dtype);

/// The tensor on the CPU as [rows, last dimension], contiguous.
at::Tensor rows_of(const at::Tensor& tensor);

ConstMatrixView view(const at::Tensor& matrix);
MatrixView mutable_view(const at::Tensor& matrix);

/// z [M, K]: the input behind its producer and transform.
at::Tensor specified_input(const at::Tensor& x, const ops::PackOptions& options);

struct SpecifiedPack {
  at::Tensor values;    // [M, K/2]
  at::Tensor metadata;  // [M, K/16]
  at::Tensor scale;     // [M]
  at::Tensor low;       // [M, R]
};
SpecifiedPack specified_pack(const at::Tensor& x, const ops::PackOptions& options);

/// z~ [M, K] with its zeros: what was selected.
at::Tensor kept_of(const SpecifiedPack& packed);

/// The same of what the operator gave for M tokens of K channels, whatever its operand is.
at::Tensor kept_of(const ops::Packed& packed, std::int64_t channels);

/// The operator's packed input as the specification takes it.
SpecifiedPack as_specified(const ops::Packed& packed, std::int64_t channels);

/// Y [M, N_i] of each layer.
std::vector<at::Tensor> specified_product(const SpecifiedPack& packed,
                                          const std::vector<ops::ProductLayer>& layers);

/// Everything in fp32: Y before its last rounding.
SpecifiedPack widened(const SpecifiedPack& packed);
ops::ProductLayer widened(const ops::ProductLayer& layer);

bool same_bits(const at::Tensor& a, const at::Tensor& b);

/// ||value - exact|| / ||exact||, in fp64.
double relative_error(const at::Tensor& value, const at::Tensor& exact);

/// Half the distance between 1 and the next element of a type.
double unit_roundoff(DType dtype);

}  // namespace rtlynx::testing
