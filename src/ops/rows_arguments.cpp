// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "kernels/spec/arguments.h"
#include "ops/take.h"

namespace rtlynx::ops {
namespace {

/// The matrix of one stream [B, S, columns].
ConstMatrixView take_stream(const Reference& like, std::string_view name, const Tensor& tensor,
                            HeadNormArguments& result) {
  if (tensor.dim() != 3) {
    fail(like.op, std::string(name) + " [B, S, heads * head_dim]", describe(tensor));
  }
  if (result.images == 0) result.images = tensor.size(0);
  if (tensor.size(0) != result.images) {
    fail(like.op, std::string(name) + " of " + std::to_string(result.images) + " images",
         describe(tensor));
  }
  return take(like, name, &tensor, result.held);
}

}  // namespace

ResidualNormArguments residual_norm_arguments(const ResidualNormTensors& tensors,
                                              std::int64_t alignment) {
  constexpr std::string_view kOp = "residual_norm";
  const Reference like(kOp, tensors.x, alignment);
  ResidualNormArguments result{.leading = leading_of(tensors.x)};
  ResidualNorm& problem = result.problem;
  problem.x = take(like, "x", &tensors.x, result.held);
  problem.y = take(like, "y", tensors.y, result.held);
  problem.gate = take(like, "gate", tensors.gate, result.held);
  problem.tanh_gate = tensors.tanh_gate;
  problem.post_weight =
      take_vector(like, "post_weight", tensors.post_weight, problem.x.columns, result.held);
  problem.post_eps = static_cast<float>(tensors.post_eps);
  if (tensors.norm != "layer" && tensors.norm != "rms") {
    fail(kOp, "a norm layer or rms", tensors.norm);
  }
  problem.norm = tensors.norm == "layer" ? Norm::layer : Norm::rms;
  problem.eps = static_cast<float>(tensors.eps);
  problem.weight = take_vector(like, "weight", tensors.weight, problem.x.columns, result.held);
  problem.scale = take(like, "scale", tensors.scale, result.held);
  problem.shift = take(like, "shift", tensors.shift, result.held);
  settle_images(kOp, "gate", problem.gate, problem.x.rows, problem.image_tokens);
  settle_images(kOp, "scale", problem.scale, problem.x.rows, problem.image_tokens);
  settle_images(kOp, "shift", problem.shift, problem.x.rows, problem.image_tokens);
  check_residual_norm(kOp, problem);
  return result;
}

HeadNormArguments head_norm_arguments(const HeadNormTensors& tensors, std::int64_t alignment) {
  constexpr std::string_view kOp = "head_norm";
  const std::size_t count = tensors.q.size();
  const auto fits = [&](std::size_t size) { return size == 0 || size == count; };
  if (count < 1 || count > 2 || tensors.k.size() != count || !fits(tensors.v.size()) ||
      !fits(tensors.q_weights.size()) || !fits(tensors.k_weights.size())) {
    fail(kOp, "q and k of one stream or two, and v and weights for none or all of them",
         std::to_string(count) + " q, " + std::to_string(tensors.k.size()) + " k, " +
             std::to_string(tensors.v.size()) + " v");
  }
  const Reference like(kOp, tensors.q.front(), alignment);
  HeadNormArguments result;
  HeadNorm& problem = result.problem;
  problem.stream_count = static_cast<int>(count);
  problem.head_dim = tensors.head_dim;
  problem.eps = static_cast<float>(tensors.eps);
  for (std::size_t i = 0; i < count; ++i) {
    HeadStream& stream = problem.streams[i];
    stream.q = take_stream(like, "q", tensors.q[i], result);
    stream.k = take_stream(like, "k", tensors.k[i], result);
    if (!tensors.v.empty()) stream.v = take_stream(like, "v", tensors.v[i], result);
    stream.tokens = tensors.q[i].size(1);
    result.tokens += stream.tokens;
    stream.q_weight =
        take_vector(like, "q_weight", entry(tensors.q_weights, i), tensors.head_dim, result.held);
    stream.k_weight =
        take_vector(like, "k_weight", entry(tensors.k_weights, i), tensors.head_dim, result.held);
  }
  problem.images = result.images;
  const std::int64_t columns = tensors.q.front().size(2);
  if (tensors.head_dim < 1 || columns % tensors.head_dim != 0) {
    fail(kOp, "a head_dim that divides " + std::to_string(columns),
         std::to_string(tensors.head_dim));
  }
  problem.heads = columns / tensors.head_dim;
  if (tensors.rotation) {
    require_fp32(like, "rotation", *tensors.rotation);
    const std::vector<std::int64_t> wanted{result.tokens, tensors.head_dim / 2, 2};
    if (tensors.rotation->sizes().vec() != wanted) {
      fail(kOp, "a rotation " + shape_text(wanted), describe(*tensors.rotation));
    }
    problem.rotation = take_numbers(like, *tensors.rotation, result.held);
  }
  return result;
}

SwigluArguments swiglu_arguments(const Tensor& gate, const Tensor& up, std::int64_t alignment) {
  const Reference like("swiglu", gate, alignment);
  SwigluArguments result{.leading = leading_of(gate)};
  result.problem.gate = take(like, "gate", &gate, result.held);
  result.problem.up = take(like, "up", &up, result.held);
  if (up.sizes().vec() != gate.sizes().vec()) {
    fail(like.op, "up of the shape of gate, " + describe(gate), describe(up));
  }
  return result;
}

}  // namespace rtlynx::ops
