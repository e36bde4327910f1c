// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "rtlynx/pack24.h"
#include "rtlynx/product24.h"
#include "rtlynx/rows.h"
#include "rtlynx/weight24.h"

/// What the descriptions in include/rtlynx have to satisfy wherever they run. Each function throws
/// Error naming `op`, what was required and what arrived.
namespace rtlynx {

/// The row of a matrix [G, ...] that token m reads, if `image_tokens` share one.
constexpr std::int64_t image_of(std::int64_t token, std::int64_t image_tokens) {
  return image_tokens > 0 ? token / image_tokens : 0;
}

/// Channels of the input: those of X and of the tail.
constexpr std::int64_t channels_of(const Pack24& input) {
  return input.x.columns + input.tail.columns;
}

void check_pack24(std::string_view op, const Pack24& input);
/// Finite and above 0.
void check_positive(std::string_view op, std::string_view name, float value);

/// What the products of an input have to fit.
struct PackedShape {
  std::int64_t tokens = 0;
  std::int64_t channels = 0;
  ConstMatrixView low;             // H / scale; no columns: no low rank
  DType dtype = DType::f32;        // element type
  DType value_dtype = DType::f32;  // the same, or e4m3
};
void check_product24(std::string_view op, const PackedShape& packed, const Product24& product);
void check_weight_product24(std::string_view op, const PackedShape& input,
                            const WeightProduct24& product);

void check_moments(std::string_view op, const Moments& problem);
void check_residual_norm(std::string_view op, const ResidualNorm& problem);
void check_head_norm(std::string_view op, const HeadNorm& problem);
void check_swiglu(std::string_view op, const Swiglu& problem);
void check_quantize(std::string_view op, const Quantize& problem);

}  // namespace rtlynx
