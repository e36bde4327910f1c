// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/pack24.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "base/half.h"
#include "kernels/spec/activation.h"
#include "kernels/spec/arguments.h"
#include "kernels/spec/matrix.h"

namespace rtlynx {
namespace {

/// Element k of row m of a matrix that may not be there.
template <typename T>
float element_or(ConstMatrixView matrix, std::int64_t row, std::int64_t k, float otherwise) {
  return matrix.rows == 0 ? otherwise : to_float(row_of<T>(matrix, row)[k]);
}

/// (x - mean) * rate * weight * (1 + scale) + shift
template <typename T>
float normed(const Pack24& input, std::int64_t m, std::int64_t k, float x) {
  const float mean = input.moments[2 * m], rate = input.moments[2 * m + 1];
  const std::int64_t image = image_of(m, input.image_tokens);
  const float weight =
      input.weight == nullptr ? 1.0f : to_float(static_cast<const T*>(input.weight)[k]);
  const float scale = element_or<T>(input.modulation_scale, image, k, 0.0f);
  const float shift = element_or<T>(input.modulation_shift, image, k, 0.0f);
  return (x - mean) * rate * weight * (1.0f + scale) + shift;
}

/// Row m of the input behind its producer: [K].
template <typename T>
std::vector<T> produced(const Pack24& input, std::int64_t m) {
  std::vector<T> z(static_cast<std::size_t>(channels_of(input)));
  for (std::size_t i = 0; i < z.size(); ++i) {
    const auto k = static_cast<std::int64_t>(i);
    const T source = k < input.x.columns ? row_of<T>(input.x, m)[k]
                                         : row_of<T>(input.tail, m)[k - input.x.columns];
    const float x = to_float(source);
    switch (input.producer) {
      case Producer::none:
        z[i] = source;
        break;
      case Producer::gelu:
        z[i] = from_float<T>(gelu_tanh(x));
        break;
      case Producer::swiglu:
        z[i] = from_float<T>(silu(x) * to_float(row_of<T>(input.up, m)[k]));
        break;
      case Producer::norm:
        z[i] = from_float<T>(normed<T>(input, m, k, x));
        break;
    }
  }
  return z;
}

/// z A of one row.
template <typename T>
std::vector<T> transformed(const Pack24& input, const std::vector<T>& z) {
  const auto* const transform = static_cast<const T*>(input.transform);
  const auto block = static_cast<std::size_t>(input.transform_block);
  std::vector<T> result(z.size());
  for (std::size_t output = 0; output < z.size(); ++output) {
    const T* const weights = transform + output * block;  // of this output
    const T* const inputs = &z[output / block * block];
    float sum = 0.0f;
    for (std::size_t i = 0; i < block; ++i) sum += to_float(inputs[i]) * to_float(weights[i]);
    result[output] = from_float<T>(sum);
  }
  return result;
}

/// z of a row behind its producer.
template <typename T>
std::vector<T> chosen_from(const Pack24& input, const std::vector<T>& row) {
  return input.transform == nullptr ? row : transformed(input, row);
}

/// Kept values in the type that they leave in: as they are, or as codes of e4m3.
template <typename T>
void write_values(const std::vector<T>& kept, const float* code_factor, MatrixView values) {
  if (code_factor == nullptr) {
    std::copy(kept.begin(), kept.end(), static_cast<T*>(values.data));
    return;
  }
  auto* const codes = static_cast<E4m3*>(values.data);
  for (std::size_t i = 0; i < kept.size(); ++i) {
    codes[i] = to_e4m3(to_float(kept[i]) * *code_factor);
  }
}

/// max |z| of a token; NaN if one is there.
template <typename T>
float largest_of(const std::vector<T>& z) {
  float largest = 0.0f;
  for (const T& element : z) {
    const float magnitude = std::fabs(to_float(element));
    if (std::isnan(magnitude)) return magnitude;
    largest = std::max(largest, magnitude);
  }
  return largest;
}

/// Bounds of what a norm gives, by its modulation: sqrt(K) max |weight (1 + scale)|, max |shift|.
struct NormLimit {
  float scaled = 0.0f, shift = 0.0f;
};
template <typename T>
NormLimit norm_limit(const Pack24& input, std::int64_t m) {
  const std::int64_t image = image_of(m, input.image_tokens), channels = channels_of(input);
  std::vector<float> scales, shifts;
  for (std::int64_t k = 0; k < channels; ++k) {
    const float weight =
        input.weight == nullptr ? 1.0f : to_float(static_cast<const T*>(input.weight)[k]);
    scales.push_back(weight * (1.0f + element_or<T>(input.modulation_scale, image, k, 0.0f)));
    shifts.push_back(element_or<T>(input.modulation_shift, image, k, 0.0f));
  }
  return {std::sqrt(static_cast<float>(channels)) * largest_of(scales), largest_of(shifts)};
}

/// A token's largest magnitude before a transform, or what bounds it.
template <typename T>
float plain_limit(const Pack24& input, std::int64_t m) {
  const std::vector<T> z = produced<T>(input, m);
  const auto tail = z.begin() + input.x.columns;
  const float of_x =
      input.limit != nullptr ? input.limit[m] : largest_of(std::vector<T>(z.begin(), tail));
  const float of_tail =
      input.tail_limit != nullptr ? input.tail_limit[m] : largest_of(std::vector<T>(tail, z.end()));
  return std::isnan(of_x) || of_x > of_tail ? of_x : of_tail;
}

/// An upper bound of a token's magnitudes behind the transform.
template <typename T>
float limit_of(const Pack24& input, float transform_gain, std::int64_t m) {
  const float spread =
      input.transform == nullptr ? 1.0f : std::sqrt(static_cast<float>(input.transform_block));
  const float gain = input.transform == nullptr ? 1.0f : transform_gain;
  if (input.producer != Producer::norm) return plain_limit<T>(input, m) * spread * gain;
  // A transform mixes channels of a row whose norm is bounded already.
  const NormLimit limit = norm_limit<T>(input, m);
  return (limit.scaled + limit.shift * spread) * gain;
}

/// The largest power of two up to 448 / limit, 1 for zeros; NaN for NaN.
float code_factor_of(float limit) {
  constexpr float kLargestCode = 448.0f, kMost = 0x1p126f;
  if (limit == 0.0f) return 1.0f;
  const float factor = kLargestCode / limit;
  if (std::isnan(factor)) return factor;
  return factor > kMost ? kMost
                        : std::bit_cast<float>(std::bit_cast<std::uint32_t>(factor) & 0x7f800000u);
}

template <typename T>
void write_low(const Pack24& input, const std::vector<T>& row, float scale, T* low) {
  for (std::int64_t r = 0; r < input.down.rows; ++r) {
    const T* const down = row_of<T>(input.down, r);
    float sum = 0.0f;
    for (std::size_t k = 0; k < row.size(); ++k) sum += to_float(row[k]) * to_float(down[k]);
    low[r] = from_float<T>(sum / scale);
  }
}

}  // namespace

void produce24(const Pack24& input, MatrixView z) {
  check_pack24("produce24", input);
  check_matrix("produce24", "z", z, input.x.rows, channels_of(input), input.x.dtype);
  with_element_type(input.x.dtype, [&](auto element) {
    using T = decltype(element);
    for (std::int64_t m = 0; m < input.x.rows; ++m) {
      const std::vector<T> row = chosen_from(input, produced<T>(input, m));
      std::copy(row.begin(), row.end(), row_of<T>(z, m));
    }
  });
}

void pack24(const Pack24& input, const Packed24& packed) {
  constexpr const char* kOp = "pack24";
  check_pack24(kOp, input);
  const std::int64_t tokens = input.x.rows, channels = channels_of(input);
  const DType dtype = input.x.dtype;
  check_matrix(kOp, "values", packed.values, tokens, channels / 2,
               input.code_factor == nullptr ? dtype : DType::e4m3);
  check_data(kOp, "metadata", packed.metadata, tokens * (channels / 16));
  check_data(kOp, "scale", packed.scale, tokens);
  if (input.down.rows > 0) check_matrix(kOp, "low", packed.low, tokens, input.down.rows, dtype);
  with_element_type(dtype, [&](auto element) {
    using T = decltype(element);
    std::vector<T> kept(static_cast<std::size_t>(channels / 2));
    for (std::int64_t m = 0; m < tokens; ++m) {
      const std::vector<T> row = produced<T>(input, m), z = chosen_from(input, row);
      const float* const factor = input.code_factor == nullptr ? nullptr : input.code_factor + m;
      compress24(contiguous(z.data(), dtype, 1, channels),
                 {.values = contiguous(static_cast<void*>(kept.data()), dtype, 1, channels / 2),
                  .metadata = packed.metadata + m * (channels / 16),
                  .scale = packed.scale + m});
      write_values(kept, factor, slice_rows(packed.values, m, 1));
      if (!input.restores_norm) packed.scale[m] = 1.0f;
      if (factor != nullptr) packed.scale[m] /= *factor;
      if (input.down.rows > 0) write_low(input, row, packed.scale[m], row_of<T>(packed.low, m));
      if (factor != nullptr) packed.scale[m] *= input.weight_unit;
    }
  });
}

void code_factors(const Pack24& input, float transform_gain, float* factors) {
  constexpr const char* kOp = "code_factors";
  check_pack24(kOp, input);
  check_positive(kOp, "transform gain", transform_gain);
  check_data(kOp, "factors", factors, input.x.rows);
  with_element_type(input.x.dtype, [&](auto element) {
    using T = decltype(element);
    for (std::int64_t m = 0; m < input.x.rows; ++m) {
      factors[m] = code_factor_of(limit_of<T>(input, transform_gain, m));
    }
  });
}

}  // namespace rtlynx
