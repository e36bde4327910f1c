// SPDX-License-Identifier: Apache-2.0
#include "kernels/spec/arguments.h"

#include <cmath>
#include <string>

#include "base/error.h"
#include "kernels/spec/matrix.h"

namespace rtlynx {
namespace {

constexpr int kWordChannels = 16;  // one metadata word
constexpr int kTailStart = 128;  // channels of the widest step of a kernel: none has parts of both

/// A matrix of one row for each image; no rows: not there.
void check_per_image(std::string_view op, std::string_view name, ConstMatrixView matrix,
                     std::int64_t tokens, std::int64_t image_tokens, std::int64_t columns,
                     DType dtype) {
  if (matrix.rows == 0) return;
  const std::int64_t images = tokens > 0 ? image_of(tokens - 1, image_tokens) + 1 : matrix.rows;
  check_matrix(op, name, matrix, images, columns, dtype);
}

void check_if_there(std::string_view op, std::string_view name, ConstMatrixView matrix,
                    std::int64_t rows, std::int64_t columns, DType dtype) {
  if (matrix.rows != 0) check_matrix(op, name, matrix, rows, columns, dtype);
}

void check_norm(std::string_view op, Norm norm) {
  if (norm > Norm::rms) fail(op, "a known norm", std::to_string(static_cast<int>(norm)));
}

void check_image_tokens(std::string_view op, std::int64_t image_tokens) {
  if (image_tokens < 0) fail(op, "image_tokens of 0 or more", std::to_string(image_tokens));
}

void check_tail(std::string_view op, const Pack24& input) {
  if (input.tail.columns == 0) return;
  check_matrix(op, "tail", input.tail, input.x.rows, input.tail.columns, input.x.dtype);
  if (input.x.columns == 0 || input.x.columns % kTailStart != 0) {
    fail(op, "channels of X before a tail, a multiple of " + std::to_string(kTailStart),
         std::to_string(input.x.columns));
  }
  require(input.producer == Producer::none, op, "no producer beside a tail", "one");
}

void check_producer(std::string_view op, const Pack24& input) {
  const ConstMatrixView& x = input.x;
  const std::int64_t channels = channels_of(input);
  if (input.producer > Producer::norm) {
    fail(op, "a known producer", std::to_string(static_cast<int>(input.producer)));
  }
  if (input.producer == Producer::swiglu) {
    check_matrix(op, "up", input.up, x.rows, channels, x.dtype);
  }
  if (input.producer != Producer::norm) return;
  check_image_tokens(op, input.image_tokens);
  check_data(op, "moments", input.moments, 2 * x.rows);
  check_per_image(op, "modulation_scale", input.modulation_scale, x.rows, input.image_tokens,
                  channels, x.dtype);
  check_per_image(op, "modulation_shift", input.modulation_shift, x.rows, input.image_tokens,
                  channels, x.dtype);
}

void check_transform(std::string_view op, const Pack24& input) {
  if (input.transform == nullptr) return;
  const int block = input.transform_block;
  if (block != 16 && block != 64 && block != 128) {
    fail(op, "a transform block of 16, 64 or 128", std::to_string(block));
  }
  const std::int64_t channels = channels_of(input);
  if (channels % block != 0) {
    fail(op, "channels divisible by the transform's block",
         std::to_string(channels) + " and " + std::to_string(block));
  }
}

/// What both kinds of product have. Product: Product24 or WeightProduct24.
template <typename Product>
void check_low_and_epilogue(std::string_view op, const PackedShape& input, const Product& product,
                            std::int64_t outputs) {
  const std::int64_t rank = product.up.columns, low_columns = input.low.columns;
  if (rank != 0) {
    check_matrix(op, "up", product.up, outputs, rank, input.dtype);
    check_matrix(op, "low", input.low, input.tokens, low_columns, input.dtype);
    if (product.low_column < 0 || product.low_column > low_columns - rank) {
      fail(op, "columns of low inside its " + std::to_string(low_columns),
           std::to_string(rank) + " from column " + std::to_string(product.low_column));
    }
  }
  if (product.bias != nullptr && product.bias_dtype != DType::f32 &&
      product.bias_dtype != input.dtype) {
    fail(op, std::string("a bias of f32 or ") + name_of(input.dtype), name_of(product.bias_dtype));
  }
  if (product.activation > Activation::gelu) {
    fail(op, "a known activation", std::to_string(static_cast<int>(product.activation)));
  }
  check_image_tokens(op, product.image_tokens);
  check_per_image(op, "gate", product.gate, input.tokens, product.image_tokens, outputs,
                  input.dtype);
  check_if_there(op, "residual", product.residual, input.tokens, outputs, input.dtype);
  check_matrix(op, "Y", product.y, input.tokens, outputs, input.dtype);
}

}  // namespace

void check_positive(std::string_view op, std::string_view name, float value) {
  if (std::isfinite(value) && value > 0.0f) return;
  fail(op, "a " + std::string(name) + " above 0", std::to_string(value));
}

void check_pack24(std::string_view op, const Pack24& input) {
  check_matrix(op, "X", input.x);
  check_tail(op, input);
  check_channels(op, channels_of(input), kWordChannels);
  check_producer(op, input);
  check_transform(op, input);
  check_if_there(op, "down", input.down, input.down.rows, channels_of(input), input.x.dtype);
  check_positive(op, "weight unit", input.weight_unit);
  if (input.producer == Producer::norm && (input.limit != nullptr || input.tail_limit != nullptr)) {
    fail(op, "no limit for a norm, whose modulation bounds it", "one");
  }
  if (input.tail_limit != nullptr && input.tail.rows == 0)
    fail(op, "a tail with its limit", "none");
}

void check_product24(std::string_view op, const PackedShape& packed, const Product24& product) {
  check_matrix(op, "weight", product.weight, product.weight.rows, packed.channels,
               packed.value_dtype);
  check_low_and_epilogue(op, packed, product, product.weight.rows);
}

void check_weight_product24(std::string_view op, const PackedShape& input,
                            const WeightProduct24& product) {
  const std::int64_t outputs = product.values.rows;
  check_matrix(op, "values", product.values, outputs, input.channels / 2, input.value_dtype);
  check_low_and_epilogue(op, input, product, outputs);
}

void check_moments(std::string_view op, const Moments& problem) {
  check_matrix(op, "X", problem.x);
  check_norm(op, problem.norm);
  check_data(op, "moments", problem.moments, 2 * problem.x.rows);
}

void check_residual_norm(std::string_view op, const ResidualNorm& problem) {
  const ConstMatrixView& x = problem.x;
  check_matrix(op, "X", x);
  check_norm(op, problem.norm);
  check_image_tokens(op, problem.image_tokens);
  check_if_there(op, "Y", problem.y, x.rows, x.columns, x.dtype);
  const auto check_modulation = [&](std::string_view name, ConstMatrixView matrix) {
    check_per_image(op, name, matrix, x.rows, problem.image_tokens, x.columns, x.dtype);
  };
  check_modulation("gate", problem.gate);
  check_modulation("scale", problem.scale);
  check_modulation("shift", problem.shift);
  check_if_there(op, "h", problem.h, x.rows, x.columns, x.dtype);
  check_if_there(op, "normed", problem.normed, x.rows, x.columns, x.dtype);
}

void check_head_norm(std::string_view op, const HeadNorm& problem) {
  const std::int64_t columns = problem.heads * problem.head_dim;
  if (problem.heads < 1 || problem.head_dim < 8 || problem.head_dim % 8 != 0 ||
      problem.head_dim > 256) {
    fail(op, "at least one head of 8 to 256 channels, a multiple of 8",
         std::to_string(problem.heads) + " of " + std::to_string(problem.head_dim));
  }
  if (problem.stream_count < 1 || problem.stream_count > 2) {
    fail(op, "one stream or two", std::to_string(problem.stream_count));
  }
  if (problem.images < 0) fail(op, "images of 0 or more", std::to_string(problem.images));
  const DType dtype = problem.q.dtype;
  std::int64_t tokens = 0;
  for (int i = 0; i < problem.stream_count; ++i) {
    const HeadStream& stream = problem.streams[i];
    if (stream.tokens < 0) fail(op, "tokens of 0 or more", std::to_string(stream.tokens));
    const std::int64_t rows = problem.images * stream.tokens;
    check_matrix(op, "q of a stream", stream.q, rows, columns, dtype);
    check_matrix(op, "k of a stream", stream.k, rows, columns, dtype);
    if (problem.v.rows != 0) check_matrix(op, "v of a stream", stream.v, rows, columns, dtype);
    tokens += rows;
  }
  check_matrix(op, "q", problem.q, tokens, columns, dtype);
  check_matrix(op, "k", problem.k, tokens, columns, dtype);
  check_if_there(op, "v", problem.v, tokens, columns, dtype);
}

void check_swiglu(std::string_view op, const Swiglu& problem) {
  const ConstMatrixView& gate = problem.gate;
  check_matrix(op, "gate", gate);
  check_matrix(op, "up", problem.up, gate.rows, gate.columns, gate.dtype);
  check_matrix(op, "y", problem.y, gate.rows, gate.columns, gate.dtype);
}

void check_quantize(std::string_view op, const Quantize& problem) {
  check_matrix(op, "x", problem.x);
  check_matrix(op, "codes", problem.codes, problem.x.rows, problem.x.columns, DType::e4m3);
  check_data(op, "unit", problem.unit, problem.x.rows);
}

}  // namespace rtlynx
