// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <utility>

#include "base/error.h"
#include "kernels/spec/arguments.h"
#include "ops/take.h"
#include "rtlynx/limits.h"

namespace rtlynx::ops {
namespace {

Producer producer_of(const PackTensors& tensors) {
  static constexpr std::array<std::pair<std::string_view, Producer>, 5> kNames = {{
      {"none", Producer::none},
      {"gelu", Producer::gelu},
      {"swiglu", Producer::swiglu},
      {"layer_norm", Producer::norm},
      {"rms_norm", Producer::norm},
  }};
  for (const auto& [name, producer] : kNames) {
    if (tensors.producer == name) return producer;
  }
  fail(tensors.op, "a producer none, gelu, swiglu, layer_norm or rms_norm", tensors.producer);
}

/// What belongs to another producer was meant for something.
void refuse_unread(const PackTensors& tensors, Producer producer) {
  const auto refuse = [&](std::string_view name, const Tensor* tensor, std::string_view producers) {
    if (tensor == nullptr) return;
    fail(tensors.op, std::string(name) + " with " + std::string(producers) + " alone",
         "producer " + std::string(tensors.producer));
  };
  if (producer != Producer::swiglu) refuse("up", tensors.up, "producer swiglu");
  if (producer == Producer::norm) return;
  constexpr std::string_view kNorms = "producers layer_norm and rms_norm";
  refuse("moments", tensors.moments, kNorms);
  refuse("weight", tensors.weight, kNorms);
  refuse("scale", tensors.scale, kNorms);
  refuse("shift", tensors.shift, kNorms);
}

void take_norm(const Reference& like, const PackTensors& tensors, PackArguments& result) {
  Pack24& input = result.input;
  const std::int64_t channels = result.channels();
  if (tensors.moments) {
    require_fp32(like, "moments", *tensors.moments);
    if (tensors.moments->numel() != 2 * input.x.rows) {
      fail(like.op, "moments of 2 numbers for each of " + std::to_string(input.x.rows) + " tokens",
           describe(*tensors.moments));
    }
    input.moments = take_numbers(like, *tensors.moments, result.held);
  } else {
    result.computes_moments = tensors.producer == "rms_norm" ? Norm::rms : Norm::layer;
  }
  input.weight = take_vector(like, "weight", tensors.weight, channels, result.held);
  input.modulation_scale = take(like, "scale", tensors.scale, result.held);
  input.modulation_shift = take(like, "shift", tensors.shift, result.held);
  settle_images(like.op, "scale", input.modulation_scale, input.x.rows, input.image_tokens);
  settle_images(like.op, "shift", input.modulation_shift, input.x.rows, input.image_tokens);
}

void take_transform(const Reference& like, const PackTensors& tensors, PackArguments& result) {
  if (tensors.transform == nullptr) return;
  const Tensor& transform = *tensors.transform;
  const std::int64_t channels = result.channels();
  if (transform.dim() != 3 || transform.size(1) != transform.size(2) ||
      transform.size(0) * transform.size(1) != channels) {
    fail(like.op, "a transform [K / block, block, block] for K = " + std::to_string(channels),
         describe(transform));
  }
  const Tensor blocks = as_contiguous(transform);
  result.held.push_back(blocks);
  result.input.transform = take(like, "transform", &blocks, result.held).data;
  result.input.transform_block = static_cast<int>(transform.size(1));
}

const float* take_limit(const Reference& like, std::string_view name, const Tensor* limit,
                        PackArguments& result) {
  if (limit == nullptr) return nullptr;
  require_fp32(like, name, *limit);
  if (limit->numel() != result.tokens()) {
    fail(like.op,
         "a " + std::string(name) + " of each of " + std::to_string(result.tokens()) + " tokens",
         describe(*limit));
  }
  return take_numbers(like, *limit, result.held);
}

}  // namespace

PackArguments pack_arguments(const PackTensors& tensors, std::int64_t alignment) {
  const std::string_view op = tensors.op;
  PackArguments result{.leading = leading_of(tensors.x), .eps = static_cast<float>(tensors.eps)};
  const Reference like(op, tensors.x, alignment);
  Pack24& input = result.input;
  input.x = take(like, "x", &tensors.x, result.held);
  input.tail = take(like, "tail", tensors.tail, result.held);
  if (result.channels() == 0) fail(op, "channels K of 16 or more", describe(tensors.x));
  input.producer = producer_of(tensors);
  refuse_unread(tensors, input.producer);
  if (input.producer == Producer::swiglu) input.up = take(like, "up", tensors.up, result.held);
  if (input.producer == Producer::norm) take_norm(like, tensors, result);
  take_transform(like, tensors, result);
  input.down = take(like, "down", tensors.down, result.held);
  input.restores_norm = tensors.norm;
  if (tensors.e4m3_unit) {
    input.weight_unit = static_cast<float>(*tensors.e4m3_unit);
    check_positive(op, "transform gain", static_cast<float>(tensors.transform_gain));
    input.limit = take_limit(like, "limit", tensors.limit, result);
    input.tail_limit = take_limit(like, "tail_limit", tensors.tail_limit, result);
  }
  Pack24 checked = input;
  static constexpr float kAny[2] = {};
  if (result.computes_moments) checked.moments = kAny;
  check_pack24(op, checked);
  return result;
}

bool is_tiled(const Tensor& x, std::int64_t channels) {
  return x.is_cuda() && x.scalar_type() != ScalarType::Float && channels % kChannelMultiple == 0;
}

}  // namespace rtlynx::ops
