// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/rows.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <type_traits>
#include <vector>

#include "base/half.h"
#include "kernels/spec/activation.h"
#include "kernels/spec/arguments.h"
#include "kernels/spec/matrix.h"

namespace rtlynx {
namespace {

struct MeanAndRate {
  float mean = 0.0f;
  float rate = 1.0f;
};

/// In fp64: the definition has no rounding of its own.
MeanAndRate moments_of(const std::vector<float>& row, Norm norm, float eps) {
  const auto count = static_cast<double>(row.size());
  double mean = 0.0;
  if (norm == Norm::layer) {
    for (const float value : row) mean += value / count;
  }
  double squares = 0.0;
  for (const float value : row) squares += (value - mean) * (value - mean);
  return {static_cast<float>(mean),
          static_cast<float>(1.0 / std::sqrt(squares / count + double{eps}))};
}

template <typename T>
std::vector<float> widened(const T* elements, std::int64_t count) {
  std::vector<float> result(static_cast<std::size_t>(count));
  std::transform(elements, elements + count, result.begin(),
                 [](T element) { return to_float(element); });
  return result;
}

/// Element k of a vector that may not be there.
template <typename T>
float element_or(const void* elements, std::size_t k, float otherwise) {
  return elements == nullptr ? otherwise : to_float(static_cast<const T*>(elements)[k]);
}
template <typename T>
const T* row_or_null(ConstMatrixView matrix, std::int64_t row) {
  return matrix.rows == 0 ? nullptr : row_of<T>(matrix, row);
}

/// fp16 residual streams stay finite, as in diffusers.
template <typename T>
T to_residual(float value) {
  if constexpr (std::is_same_v<T, Half>) {
    constexpr float kLargest = 65504.0f;
    if (!std::isnan(value)) value = std::clamp(value, -kLargest, kLargest);
  }
  return from_float<T>(value);
}

/// Row m of h, rounded.
template <typename T>
std::vector<float> residual_row(const ResidualNorm& problem, std::int64_t m) {
  std::vector<float> h = widened(row_of<T>(problem.x, m), problem.x.columns);
  if (problem.y.rows == 0) return h;
  const std::vector<float> y = widened(row_of<T>(problem.y, m), problem.y.columns);
  float rate = 1.0f;
  if (problem.post_weight != nullptr) rate = moments_of(y, Norm::rms, problem.post_eps).rate;
  const T* const gate = row_or_null<T>(problem.gate, image_of(m, problem.image_tokens));
  for (std::size_t k = 0; k < h.size(); ++k) {
    const float post = y[k] * rate * element_or<T>(problem.post_weight, k, 1.0f);
    float g = element_or<T>(gate, k, 1.0f);
    if (problem.tanh_gate && gate != nullptr) g = std::tanh(g);
    h[k] = to_float(to_residual<T>(std::fma(g, post, h[k])));
  }
  return h;
}

template <typename T>
void write_normed(const ResidualNorm& problem, std::int64_t m, const std::vector<float>& h,
                  const MeanAndRate& moments) {
  const std::int64_t image = image_of(m, problem.image_tokens);
  const T* const scale = row_or_null<T>(problem.scale, image);
  const T* const shift = row_or_null<T>(problem.shift, image);
  for (std::size_t k = 0; k < h.size(); ++k) {
    const float n = (h[k] - moments.mean) * moments.rate * element_or<T>(problem.weight, k, 1.0f) *
                        (1.0f + element_or<T>(scale, k, 0.0f)) +
                    element_or<T>(shift, k, 0.0f);
    row_of<T>(problem.normed, m)[k] = from_float<T>(n);
  }
}

template <typename T>
void finish_row(const ResidualNorm& problem, std::int64_t m) {
  const std::vector<float> h = residual_row<T>(problem, m);
  const MeanAndRate moments = moments_of(h, problem.norm, problem.eps);
  if (problem.h.rows > 0) {
    std::transform(h.begin(), h.end(), row_of<T>(problem.h, m), from_float<T>);
  }
  if (problem.moments != nullptr) {
    problem.moments[2 * m] = moments.mean;
    problem.moments[2 * m + 1] = moments.rate;
  }
  if (problem.normed.rows > 0) write_normed<T>(problem, m, h, moments);
}

/// One head: source -> target, both [head_dim]. `rotation`: [head_dim / 2, 2] of its token, or
/// null.
template <typename T>
void norm_head(const HeadNorm& problem, const T* source, const void* weight, const float* rotation,
               T* target) {
  std::vector<float> head = widened(source, problem.head_dim);
  const float rate = moments_of(head, Norm::rms, problem.eps).rate;
  for (std::size_t k = 0; k < head.size(); ++k) {
    head[k] = to_float(from_float<T>(head[k] * rate));
    head[k] = to_float(from_float<T>(head[k] * element_or<T>(weight, k, 1.0f)));
  }
  for (std::size_t k = 0; k < head.size(); k += 2) {
    const float a = head[k], b = head[k + 1];
    const float cosine = rotation == nullptr ? 1.0f : rotation[k];
    const float sine = rotation == nullptr ? 0.0f : rotation[k + 1];
    target[k] = from_float<T>(a * cosine - b * sine);
    target[k + 1] = from_float<T>(b * cosine + a * sine);
  }
}

/// `first`: the stream's first token in an image of `image_tokens`.
template <typename T>
void norm_stream(const HeadNorm& problem, const HeadStream& stream, std::int64_t first,
                 std::int64_t image_tokens) {
  for (std::int64_t row = 0; row < problem.images * stream.tokens; ++row) {
    const std::int64_t token = first + row % stream.tokens;  // of its image
    const std::int64_t target = row / stream.tokens * image_tokens + token;
    const float* const rotation =
        problem.rotation == nullptr ? nullptr : problem.rotation + token * problem.head_dim;
    for (std::int64_t head = 0; head < problem.heads; ++head) {
      const std::int64_t at = head * problem.head_dim;
      norm_head(problem, row_of<T>(stream.q, row) + at, stream.q_weight, rotation,
                row_of<T>(problem.q, target) + at);
      norm_head(problem, row_of<T>(stream.k, row) + at, stream.k_weight, rotation,
                row_of<T>(problem.k, target) + at);
    }
    if (problem.v.rows == 0) continue;
    std::copy_n(row_of<T>(stream.v, row), stream.v.columns, row_of<T>(problem.v, target));
  }
}

}  // namespace

void moments(const Moments& problem) {
  check_moments("moments", problem);
  with_element_type(problem.x.dtype, [&](auto element) {
    using T = decltype(element);
    for (std::int64_t m = 0; m < problem.x.rows; ++m) {
      const std::vector<float> row = widened(row_of<T>(problem.x, m), problem.x.columns);
      const MeanAndRate found = moments_of(row, problem.norm, problem.eps);
      problem.moments[2 * m] = found.mean;
      problem.moments[2 * m + 1] = found.rate;
    }
  });
}

void residual_norm(const ResidualNorm& problem) {
  check_residual_norm("residual_norm", problem);
  with_element_type(problem.x.dtype, [&](auto element) {
    for (std::int64_t m = 0; m < problem.x.rows; ++m) finish_row<decltype(element)>(problem, m);
  });
}

void head_norm(const HeadNorm& problem) {
  check_head_norm("head_norm", problem);
  std::int64_t image_tokens = 0;
  for (int i = 0; i < problem.stream_count; ++i) image_tokens += problem.streams[i].tokens;
  with_element_type(problem.q.dtype, [&](auto element) {
    std::int64_t first = 0;
    for (int i = 0; i < problem.stream_count; ++i) {
      norm_stream<decltype(element)>(problem, problem.streams[i], first, image_tokens);
      first += problem.streams[i].tokens;
    }
  });
}

void swiglu(const Swiglu& problem) {
  check_swiglu("swiglu", problem);
  with_element_type(problem.gate.dtype, [&](auto element) {
    using T = decltype(element);
    for (std::int64_t m = 0; m < problem.gate.rows; ++m) {
      const T* const gate = row_of<T>(problem.gate, m);
      const T* const up = row_of<T>(problem.up, m);
      std::transform(gate, gate + problem.gate.columns, up, row_of<T>(problem.y, m),
                     [](T g, T u) { return from_float<T>(silu(to_float(g)) * to_float(u)); });
    }
  });
}

namespace {

/// What a 1 of a row's codes stands for. Its reciprocal is finite.
float code_unit(float largest) {
  constexpr float kLargestCode = 448.0f, kSmallestNormal = 0x1p-126f;
  return largest == 0.0f ? 1.0f : std::max(largest / kLargestCode, kSmallestNormal);
}

}  // namespace

void quantize(const Quantize& problem) {
  check_quantize("quantize", problem);
  with_element_type(problem.x.dtype, [&](auto element) {
    using T = decltype(element);
    for (std::int64_t m = 0; m < problem.x.rows; ++m) {
      const T* const x = row_of<T>(problem.x, m);
      const T* const end = x + problem.x.columns;
      const float largest = std::accumulate(x, end, 0.0f, [](float so_far, T value) {
        return std::max(so_far, std::fabs(to_float(value)));  // so_far beside a NaN
      });
      problem.unit[m] = code_unit(largest);
      const float factor = 1.0f / problem.unit[m];
      std::transform(x, end, row_of<E4m3>(problem.codes, m),
                     [&](T value) { return to_e4m3(to_float(value) * factor); });
    }
  });
}

}  // namespace rtlynx
