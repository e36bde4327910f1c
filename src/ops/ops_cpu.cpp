// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <optional>

#include "ops/implementations.h"
#include "ops/plain.h"
#include "rtlynx/compress24.h"
#include "rtlynx/rows.h"

namespace rtlynx::ops::cpu {
namespace {

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

/// A new tensor, and the matrix that it is.
struct Result {
  Tensor tensor;
  MatrixView view;
};

Result new_rows(const Tensor& like, const Integers& leading, std::int64_t columns) {
  Result result{.tensor = empty_like_device(like, with_last(leading, columns), like.scalar_type()),
                .view = {}};
  result.view = matrix_of("new_rows", result.tensor).view;
  return result;
}

Sparsified sparsify24(const Tensor& x, bool norm) {
  const NoGrad no_grad;
  const Matrix source = matrix_of("sparsify24", x);
  const std::vector<std::int64_t> leading = leading_of(x);
  const Result kept = new_rows(x, leading, source.view.columns);
  const Tensor scale = empty_like_device(x, leading, ScalarType::Float);
  float* const s = scale.mutable_data_ptr<float>();
  const ConstMatrixView from = source.view;
  rtlynx::sparsify24(slice_rows(from, 0, 0), slice_rows(kept.view, 0, 0), nullptr);  // checks
  for_row_ranges(from.rows, from.columns, [&](std::int64_t first, std::int64_t count) {
    rtlynx::sparsify24(slice_rows(from, first, count), slice_rows(kept.view, first, count),
                       norm ? s + first : nullptr);
  });
  if (!norm) std::fill_n(s, from.rows, 1.0f);
  return {kept.tensor, scale};
}

Packed pack(const Tensor& x, const OptionalTensor& tail, const std::string& producer,
            const OptionalTensor& up, const OptionalTensor& moments, const OptionalTensor& weight,
            const OptionalTensor& scale, const OptionalTensor& shift, double eps,
            const OptionalTensor& transform, const OptionalTensor& down, bool norm,
            std::optional<double> e4m3_unit, double transform_gain, const OptionalTensor& limit,
            const OptionalTensor& tail_limit) {
  const NoGrad no_grad;
  return plain::pack({.x = x,
                      .tail = pointer_to(tail),
                      .producer = producer,
                      .up = pointer_to(up),
                      .moments = pointer_to(moments),
                      .weight = pointer_to(weight),
                      .scale = pointer_to(scale),
                      .shift = pointer_to(shift),
                      .eps = eps,
                      .transform = pointer_to(transform),
                      .down = pointer_to(down),
                      .norm = norm,
                      .e4m3_unit = e4m3_unit,
                      .transform_gain = transform_gain,
                      .limit = pointer_to(limit),
                      .tail_limit = pointer_to(tail_limit)});
}

Tensors product(const Tensor& operand, const Tensor& row_scale, const Tensor& low,
                const Tensors& weights, const Tensors& ups, const Integers& low_starts,
                const Tensors& biases, const Integers& activations, const Tensors& gates,
                const Tensors& residuals) {
  const NoGrad no_grad;
  return plain::product(
      {operand, row_scale, low, weights, ups, low_starts, biases, activations, gates, residuals});
}

void product_out(const Tensor& operand, const Tensor& row_scale, const Tensor& low,
                 const Tensors& weights, const Tensors& ups, const Integers& low_starts,
                 const Tensors& biases, const Integers& activations, const Tensors& gates,
                 const Tensors& residuals, const Tensors& out, const Tensors& largest) {
  const NoGrad no_grad;
  plain::product({operand, row_scale, low, weights, ups, low_starts, biases, activations, gates,
                  residuals, "product_out", largest},
                 &out);
}

Tensor pack_weight(const Tensor& weight) {
  const NoGrad no_grad;
  return plain::pack_weight(weight);
}

Tensors weight_product(const Tensor& x, const Tensor& low, const Tensors& weights,
                       const Integers& /*outputs*/, const Tensors& ups, const Integers& low_starts,
                       const Tensors& biases, const Integers& activations, const Tensors& gates,
                       const Tensors& residuals) {
  const NoGrad no_grad;
  return plain::weight_product({x, x, low, weights, ups, low_starts, biases, activations, gates,
                                residuals, "weight_product"});
}

void weight_product_out(const Tensor& x, const Tensor& low, const Tensors& weights,
                        const Integers& /*outputs*/, const Tensors& ups, const Integers& low_starts,
                        const Tensors& biases, const Integers& activations, const Tensors& gates,
                        const Tensors& residuals, const Tensors& out) {
  const NoGrad no_grad;
  plain::weight_product({x, x, low, weights, ups, low_starts, biases, activations, gates, residuals,
                         "weight_product_out"},
                        &out);
}

Tensor linear24(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                const OptionalTensor& lora_down, const OptionalTensor& lora_up, bool norm) {
  const NoGrad no_grad;
  check_low_rank(lora_down, lora_up);
  const Packed packed = plain::pack(pack_tensors(x, lora_down, norm));
  return plain::product(product_tensors(packed, weight, bias, lora_up)).front();
}

/// The same problem for some of its rows.
ResidualNorm slice(const ResidualNorm& problem, std::int64_t first, std::int64_t count) {
  ResidualNorm part = problem;
  const auto take = [&](auto& matrix) {
    if (matrix.rows > 0) matrix = slice_rows(matrix, first, count);
  };
  take(part.x);
  take(part.y);
  take(part.h);
  take(part.normed);
  if (part.moments != nullptr) part.moments += 2 * first;
  // One row of the modulation for each token: `first` may lie anywhere in its image.
  const auto from_image = [&](ConstMatrixView& matrix) {
    if (matrix.rows > 1) matrix = slice_rows(matrix, first / problem.image_tokens, 1);
  };
  from_image(part.gate);
  from_image(part.scale);
  from_image(part.shift);
  part.image_tokens = 0;
  return part;
}

NormedRows residual_norm(const Tensor& x, const OptionalTensor& y, const OptionalTensor& gate,
                         bool tanh_gate, const OptionalTensor& post_weight, double post_eps,
                         const std::string& norm, double eps, const OptionalTensor& weight,
                         const OptionalTensor& scale, const OptionalTensor& shift,
                         bool want_normed) {
  const NoGrad no_grad;
  const ResidualNormArguments arguments = residual_norm_arguments(
      {x, pointer_to(y), pointer_to(gate), pointer_to(post_weight), tanh_gate, post_eps, norm, eps,
       pointer_to(weight), pointer_to(scale), pointer_to(shift), want_normed},
      /*alignment=*/1);
  ResidualNorm problem = arguments.problem;
  const std::int64_t columns = problem.x.columns;
  const Result h = new_rows(x, arguments.leading, columns);
  const Result normed = new_rows(x, arguments.leading, want_normed ? columns : 0);
  const Tensor moments = empty_like_device(x, with_last(arguments.leading, 2), ScalarType::Float);
  problem.h = h.view;
  if (want_normed) problem.normed = normed.view;
  problem.moments = moments.mutable_data_ptr<float>();
  for_row_ranges(problem.x.rows, columns, [&](std::int64_t first, std::int64_t count) {
    // In pieces that lie in one image.
    const std::int64_t image = problem.image_tokens > 0 ? problem.image_tokens : problem.x.rows;
    for (std::int64_t begin = first; begin < first + count;) {
      const std::int64_t end = std::min(first + count, (begin / image + 1) * image);
      rtlynx::residual_norm(slice(problem, begin, end - begin));
      begin = end;
    }
  });
  return {h.tensor, moments, normed.tensor};
}

Heads head_norm(const Tensors& q, const Tensors& k, const Tensors& v, const Tensors& q_weights,
                const Tensors& k_weights, const OptionalTensor& rotation, std::int64_t head_dim,
                double eps) {
  const NoGrad no_grad;
  const HeadNormArguments arguments = head_norm_arguments(
      {q, k, v, q_weights, k_weights, pointer_to(rotation), head_dim, eps}, /*alignment=*/1);
  HeadNorm problem = arguments.problem;
  const std::vector<std::int64_t> leading{arguments.images, arguments.tokens};
  const std::int64_t columns = problem.heads * head_dim;
  const Result joint_q = new_rows(q.front(), leading, columns);
  const Result joint_k = new_rows(q.front(), leading, columns);
  const Result joint_v = new_rows(q.front(), leading, v.empty() ? 0 : columns);
  problem.q = joint_q.view;
  problem.k = joint_k.view;
  if (!v.empty()) problem.v = joint_v.view;
  rtlynx::head_norm(problem);
  return {joint_q.tensor, joint_k.tensor, joint_v.tensor};
}

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  const NoGrad no_grad;
  const SwigluArguments arguments = swiglu_arguments(gate, up, /*alignment=*/1);
  const Swiglu& problem = arguments.problem;
  const Result y = new_rows(gate, arguments.leading, problem.gate.columns);
  for_row_ranges(problem.gate.rows, problem.gate.columns,
                 [&](std::int64_t first, std::int64_t count) {
                   rtlynx::swiglu({.gate = slice_rows(problem.gate, first, count),
                                   .up = slice_rows(problem.up, first, count),
                                   .y = slice_rows(y.view, first, count)});
                 });
  return y.tensor;
}

}  // namespace
}  // namespace rtlynx::ops::cpu

RTLYNX_REGISTER_OPERATORS(CPU, rtlynx::ops::cpu)
