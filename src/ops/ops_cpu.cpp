// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>

#include "ops/arguments.h"
#include "ops/dispatch.h"
#include "rtlynx/pack24.h"

namespace rtlynx::ops {
namespace {

using torch::stable::new_empty;

// Enough work to be worth another thread.
constexpr std::int64_t kElementsPerTask = 1 << 15;

/// Calls function(first, count) on ranges of rows, on torch's threads.
template <typename Function>
void for_row_ranges(std::int64_t rows, std::int64_t columns, const Function& function) {
  const std::int64_t grain =
      std::max<std::int64_t>(1, kElementsPerTask / std::max<std::int64_t>(1, columns));
  torch::stable::parallel_for(
      0, rows, grain, [&](std::int64_t begin, std::int64_t end) { function(begin, end - begin); });
}

ConstMatrixView view(const Rows& matrix) {
  return contiguous(matrix.tensor.const_data_ptr(), matrix.dtype, matrix.rows, matrix.columns);
}

MatrixView view(const Tensor& tensor, DType dtype, std::int64_t rows, std::int64_t columns) {
  return contiguous(tensor.mutable_data_ptr(), dtype, rows, columns);
}

Sparsified sparsify(const Rows& x, bool norm) {
  const Tensor kept = new_empty(x.tensor, x.shape);
  const Tensor scale = new_empty(x.tensor, {x.rows}, ScalarType::Float);
  const ConstMatrixView source = view(x);
  const MatrixView target = view(kept, x.dtype, x.rows, x.columns);
  float* const s = scale.mutable_data_ptr<float>();
  for_row_ranges(x.rows, x.columns, [&](std::int64_t first, std::int64_t count) {
    rtlynx::sparsify24(slice_rows(source, first, count), slice_rows(target, first, count),
                       norm ? s + first : nullptr);
  });
  if (!norm) std::fill_n(s, x.rows, 1.0f);
  return {kept, scale};
}

Sparsified sparsify24(const Tensor& x, bool norm) {
  const NoGrad no_grad;
  return sparsify(rows_of("sparsify24", x, 4), norm);
}

Packed pack24(const Tensor& x) {
  const NoGrad no_grad;
  const Rows rows = rows_of("pack24", x, 16);
  const Tensor values = new_empty(rows.tensor, rows.shape_with(rows.columns / 2));
  const Tensor metadata =
      new_empty(rows.tensor, rows.shape_with(rows.columns / 16), ScalarType::Short);
  const Tensor scale = new_empty(rows.tensor, {rows.rows}, ScalarType::Float);
  const ConstMatrixView source = view(rows);
  const MatrixView target = view(values, rows.dtype, rows.rows, rows.columns / 2);
  auto* const words = static_cast<std::uint16_t*>(metadata.mutable_data_ptr());
  float* const s = scale.mutable_data_ptr<float>();
  for_row_ranges(rows.rows, rows.columns, [&](std::int64_t first, std::int64_t count) {
    rtlynx::pack24(slice_rows(source, first, count),
                   {.values = slice_rows(target, first, count),
                    .metadata = words + first * (rows.columns / 16),
                    .scale = s + first});
  });
  return {values, metadata, scale};
}

Tensor unpack24(const Tensor& values, const Tensor& metadata) {
  const NoGrad no_grad;
  const Unpack24Arguments in = unpack24_arguments(values, metadata);
  const std::int64_t columns = 2 * in.values.columns;
  const Tensor x = new_empty(in.values.tensor, in.values.shape_with(columns));
  // In one piece: a bad word is reported by its row.
  rtlynx::unpack24(view(in.values), static_cast<const std::uint16_t*>(in.metadata.const_data_ptr()),
                   view(x, in.values.dtype, in.values.rows, columns));
  return x;
}

/// A [M, K] B^T for B [N, K], both fp32. The out= form is the one that autocast leaves alone.
Tensor product(const Tensor& a, const Tensor& b) {
  const Tensor result = new_empty(a, {a.size(0), b.size(0)});
  return call_aten("aten::mm", "out", a, torch::stable::transpose(b, 0, 1), result);
}

/// H / s, rounded once to the element type and widened again.
Tensor divide_rows(const Tensor& h, const Tensor& scale, ScalarType type) {
  const Tensor quotient = call_aten("aten::div", "Tensor", h, torch::stable::unsqueeze(scale, 1));
  return torch::stable::to(torch::stable::to(quotient, type), ScalarType::Float);
}

/// acc <- fma(s, acc + low, bias).
void finish(const Tensor& acc, const std::optional<Tensor>& low, const Tensor& scale,
            const std::optional<Tensor>& bias) {
  const std::int64_t columns = acc.size(1);
  float* const y = acc.mutable_data_ptr<float>();
  const float* const l = low ? low->const_data_ptr<float>() : nullptr;
  const float* const s = scale.const_data_ptr<float>();
  const float* const b = bias ? bias->const_data_ptr<float>() : nullptr;
  for_row_ranges(acc.size(0), columns, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t m = first; m < first + count; ++m) {
      for (std::int64_t n = 0; n < columns; ++n) {
        const std::int64_t at = m * columns + n;
        const float sum = l ? y[at] + l[at] : y[at];
        y[at] = std::fma(s[m], sum, b ? b[n] : 0.0f);
      }
    }
  });
}

/// Everything is widened to fp32 first: widening is exact and keeps the order of magnitudes, so the
/// selection is that of the 16-bit type.
Tensor linear(const Linear24Arguments& in, bool norm) {
  const auto widen = [](const Tensor& tensor) {
    return torch::stable::to(tensor, ScalarType::Float);
  };
  const ScalarType type = in.x.tensor.scalar_type();
  const Tensor wide = torch::stable::view(widen(in.x.tensor), {in.x.rows, in.x.columns});
  const auto [kept, scale] = sparsify(rows_of("linear24", wide, 4), norm);

  const Tensor acc = product(kept, widen(in.weight));
  std::optional<Tensor> low;
  if (in.down) {
    low = product(divide_rows(product(wide, widen(*in.down)), scale, type), widen(*in.up));
  }
  std::optional<Tensor> wide_bias;
  if (in.bias) wide_bias = widen(*in.bias);
  finish(acc, low, scale, wide_bias);
  return torch::stable::view(torch::stable::to(acc, type), in.x.shape_with(in.outputs));
}

Tensor linear24(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                const std::optional<Tensor>& lora_down, const std::optional<Tensor>& lora_up,
                bool norm) {
  const NoGrad no_grad;
  return linear(linear24_arguments("linear24", x, weight, bias, lora_down, lora_up), norm);
}

/// No choice is measured here: always linear24.
Tensor linear24_auto(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                     const std::optional<Tensor>& lora_down, const std::optional<Tensor>& lora_up,
                     bool norm) {
  const NoGrad no_grad;
  return linear(linear24_arguments("linear24_auto", x, weight, bias, lora_down, lora_up), norm);
}

}  // namespace
}  // namespace rtlynx::ops

STABLE_TORCH_LIBRARY_IMPL(rtlynx, CPU, m) {
  m.impl("sparsify24", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::sparsify24>::call));
  m.impl("pack24", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::pack24>::call));
  m.impl("unpack24", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::unpack24>::call));
  m.impl("linear24", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::linear24>::call));
  m.impl("linear24_auto", TORCH_BOX(&rtlynx::ops::Guarded<&rtlynx::ops::linear24_auto>::call));
}
