// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/gpu/rows.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "kernels/check.h"
#include "kernels/rows/params.h"
#include "kernels/spec/arguments.h"
#include "rtlynx/limits.h"

namespace rtlynx::gpu {
namespace {

constexpr int kVectorElements = 8;

void check_narrow(std::string_view op, DType dtype) {
  require(dtype == DType::bf16 || dtype == DType::f16, op, "bf16 or f16", name_of(dtype));
}

void check_columns(std::string_view op, std::int64_t columns) {
  if (columns % kVectorElements == 0 && columns >= 1 && columns <= kMaxRowColumns) return;
  fail(op, "columns divisible by 8, at most " + std::to_string(kMaxRowColumns),
       std::to_string(columns));
}

/// Rows that begin on 16 bytes.
void check_rows(std::string_view op, std::string_view name, ConstMatrixView matrix) {
  if (matrix.rows == 0) return;
  if (matrix.row_stride % kVectorElements != 0) {
    fail(op, "a row stride of " + std::string(name) + " divisible by 8",
         std::to_string(matrix.row_stride));
  }
  check_pointer(op, name, matrix.data);
}

const void* data_or_null(ConstMatrixView matrix) { return matrix.rows > 0 ? matrix.data : nullptr; }
void* data_or_null(MatrixView matrix) { return matrix.rows > 0 ? matrix.data : nullptr; }

rows::Launch launch_on(cudaStream_t stream) {
  const DeviceTraits device = current_device();
  return {device.compute_capability, device.multiprocessors, stream};
}

unsigned image_tokens_of(std::int64_t image_tokens, std::int64_t tokens) {
  const std::int64_t shared = image_tokens > 0 ? image_tokens : tokens;
  return static_cast<unsigned>(
      std::clamp<std::int64_t>(shared, 1, std::max<std::int64_t>(1, tokens)));
}

void check_gpu(std::string_view op, const ResidualNorm& problem) {
  check_narrow(op, problem.x.dtype);
  check_columns(op, problem.x.columns);
  if (problem.x.rows > kMaxSize) fail(op, "at most 2^30 tokens", std::to_string(problem.x.rows));
  check_rows(op, "X", problem.x);
  check_rows(op, "Y", problem.y);
  check_rows(op, "gate", problem.gate);
  check_rows(op, "scale", problem.scale);
  check_rows(op, "shift", problem.shift);
  check_rows(op, "h", problem.h);
  check_rows(op, "normed", problem.normed);
  check_pointer(op, "moments", problem.moments, /*optional=*/true);
  check_pointer(op, "weight", problem.weight, /*optional=*/true);
  check_pointer(op, "post_weight", problem.post_weight, /*optional=*/true);
}

void run(std::string_view op, const ResidualNorm& problem, cudaStream_t stream) {
  if (problem.x.rows == 0) return;
  check_gpu(op, problem);
  const rows::ResidualNormParams params{
      .x = problem.x.data,
      .x_stride = problem.x.row_stride,
      .y = data_or_null(problem.y),
      .y_stride = problem.y.row_stride,
      .gate = data_or_null(problem.gate),
      .gate_stride = problem.gate.row_stride,
      .tanh_gate = problem.tanh_gate,
      .post_weight = problem.post_weight,
      .post_eps = problem.post_eps,
      .image_tokens = image_tokens_of(problem.image_tokens, problem.x.rows),
      .h = data_or_null(problem.h),
      .h_stride = problem.h.row_stride,
      .centred = problem.norm == Norm::layer,
      .eps = problem.eps,
      .moments = reinterpret_cast<float2*>(problem.moments),
      .weight = problem.weight,
      .scale = data_or_null(problem.scale),
      .scale_stride = problem.scale.row_stride,
      .shift = data_or_null(problem.shift),
      .shift_stride = problem.shift.row_stride,
      .normed = data_or_null(problem.normed),
      .normed_stride = problem.normed.row_stride,
      .tokens = static_cast<int>(problem.x.rows),
      .columns = static_cast<int>(problem.x.columns)};
  const rows::Launch launch = launch_on(stream);
  check(rows::launch_residual_norm(problem.x.dtype, params, launch), op);
}

rows::HeadStreamParams params_of(std::string_view op, const HeadStream& stream, bool wants_v) {
  check_rows(op, "q of a stream", stream.q);
  check_rows(op, "k of a stream", stream.k);
  if (wants_v) check_rows(op, "v of a stream", stream.v);
  check_pointer(op, "q_weight", stream.q_weight, /*optional=*/true);
  check_pointer(op, "k_weight", stream.k_weight, /*optional=*/true);
  return {.source = {stream.q.data, stream.k.data, stream.v.data},
          .stride = {stream.q.row_stride, stream.k.row_stride, stream.v.row_stride},
          .weight = {stream.q_weight, stream.k_weight},
          .tokens = static_cast<int>(stream.tokens)};
}

}  // namespace

void moments(const Moments& problem, cudaStream_t stream) {
  constexpr std::string_view kOp = "gpu::moments";
  check_moments(kOp, problem);
  run(kOp, {.x = problem.x, .norm = problem.norm, .eps = problem.eps, .moments = problem.moments},
      stream);
}

void residual_norm(const ResidualNorm& problem, cudaStream_t stream) {
  constexpr std::string_view kOp = "gpu::residual_norm";
  check_residual_norm(kOp, problem);
  run(kOp, problem, stream);
}

void head_norm(const HeadNorm& problem, cudaStream_t stream) {
  constexpr std::string_view kOp = "gpu::head_norm";
  check_head_norm(kOp, problem);
  check_narrow(kOp, problem.q.dtype);
  if (problem.q.rows == 0) return;
  constexpr std::int64_t kMostImages = 65535;  // a grid's second axis
  if (problem.images > kMostImages || problem.q.rows > kMaxSize) {
    fail(kOp, "at most 65535 images and 2^30 tokens",
         std::to_string(problem.images) + " and " + std::to_string(problem.q.rows));
  }
  check_rows(kOp, "q", problem.q);
  check_rows(kOp, "k", problem.k);
  check_rows(kOp, "v", problem.v);
  check_pointer(kOp, "rotation", problem.rotation, /*optional=*/true);
  rows::HeadNormParams params{
      .streams = {},
      .stream_count = problem.stream_count,
      .images = static_cast<int>(problem.images),
      .image_tokens = 0,
      .heads = static_cast<int>(problem.heads),
      .head_dim = static_cast<int>(problem.head_dim),
      .eps = problem.eps,
      .rotation = problem.rotation,
      .target = {problem.q.data, problem.k.data, data_or_null(problem.v)},
      .stride = {problem.q.row_stride, problem.k.row_stride, problem.v.row_stride}};
  for (int i = 0; i < problem.stream_count; ++i) {
    params.streams[i] = params_of(kOp, problem.streams[i], problem.v.rows > 0);
    params.image_tokens += params.streams[i].tokens;
  }
  const rows::Launch launch = launch_on(stream);
  check(rows::launch_head_norm(problem.q.dtype, params, launch), kOp);
}

void swiglu(const Swiglu& problem, cudaStream_t stream) {
  constexpr std::string_view kOp = "gpu::swiglu";
  check_swiglu(kOp, problem);
  const ConstMatrixView& gate = problem.gate;
  check_narrow(kOp, gate.dtype);
  check_columns(kOp, gate.columns);
  if (gate.rows == 0) return;
  if (gate.rows > kMaxSize) fail(kOp, "at most 2^30 tokens", std::to_string(gate.rows));
  check_rows(kOp, "gate", gate);
  check_rows(kOp, "up", problem.up);
  check_rows(kOp, "y", problem.y);
  const rows::SwigluParams params{.gate = gate.data,
                                  .gate_stride = gate.row_stride,
                                  .up = problem.up.data,
                                  .up_stride = problem.up.row_stride,
                                  .y = problem.y.data,
                                  .y_stride = problem.y.row_stride,
                                  .tokens = static_cast<int>(gate.rows),
                                  .columns = static_cast<int>(gate.columns)};
  const rows::Launch launch = launch_on(stream);
  check(rows::launch_swiglu(gate.dtype, params, launch), kOp);
}

void quantize(const Quantize& problem, cudaStream_t stream) {
  constexpr std::string_view kOp = "gpu::quantize";
  check_quantize(kOp, problem);
  const ConstMatrixView& x = problem.x;
  check_narrow(kOp, x.dtype);
  check_columns(kOp, x.columns);
  require(x.columns % kChannelMultiple == 0, kOp, "columns divisible by 16",
          std::to_string(x.columns));
  if (x.rows == 0) return;
  if (x.rows > kMaxSize) fail(kOp, "at most 2^30 tokens", std::to_string(x.rows));
  check_rows(kOp, "x", x);
  check_rows(kOp, "codes", problem.codes);
  check_pointer(kOp, "unit", problem.unit);
  const rows::QuantizeParams params{.x = x.data,
                                    .x_stride = x.row_stride,
                                    .codes = problem.codes.data,
                                    .codes_stride = problem.codes.row_stride,
                                    .unit = problem.unit,
                                    .tokens = static_cast<int>(x.rows),
                                    .columns = static_cast<int>(x.columns)};
  const rows::Launch launch = launch_on(stream);
  check(rows::launch_quantize(x.dtype, params, launch), kOp);
}

}  // namespace rtlynx::gpu
