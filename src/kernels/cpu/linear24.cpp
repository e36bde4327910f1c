// SPDX-License-Identifier: Apache-2.0
#include "rtlynx/linear24.h"

#include <cmath>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/scale24.h"
#include "kernels/cpu/select24.h"

namespace rtlynx {
namespace {

void check_layer(const Linear24& layer, MatrixView y) {
  constexpr const char* kOp = "linear24";
  const ConstMatrixView& x = layer.x;
  check_matrix(kOp, "X", x);
  check_channels(kOp, x.columns, kGroup);
  check_matrix(kOp, "weight", layer.weight, layer.weight.rows, x.columns, x.dtype);
  const std::int64_t outputs = layer.weight.rows;
  const std::int64_t rank = layer.down.rows;
  if (rank != 0) {
    check_matrix(kOp, "down", layer.down, rank, x.columns, x.dtype);
    check_matrix(kOp, "up", layer.up, outputs, rank, x.dtype);
  } else if (layer.up.columns != 0) {
    fail(kOp, "up of rank 0, as down has no rows", describe("up", layer.up));
  }
  check_matrix(kOp, "Y", y, x.rows, outputs, y.dtype);
}

// The kept elements of a token in channel order: x~ without its zeros.
struct Kept {
  std::vector<float> values;           // [K/2]
  std::vector<std::int64_t> channels;  // [K/2]
};

template <typename T>
Kept keep(const T* x, std::int64_t channels) {
  Kept kept;
  for (std::int64_t k = 0; k < channels; k += kGroup) {
    const Pair24 pair = select24(x + k);
    for (const int i : {pair.first, pair.second}) {
      kept.values.push_back(to_float(x[k + i]));
      kept.channels.push_back(k + i);
    }
  }
  return kept;
}

template <typename T>
float dot(const T* a, const T* b, std::int64_t size) {
  float sum = 0.0f;
  for (std::int64_t i = 0; i < size; ++i) sum += to_float(a[i]) * to_float(b[i]);
  return sum;
}

template <typename T>
float dot(const Kept& kept, const T* weight) {
  float sum = 0.0f;
  for (std::size_t i = 0; i < kept.values.size(); ++i) {
    sum += kept.values[i] * to_float(weight[kept.channels[i]]);
  }
  return sum;
}

// Row m of Y. T: element type, Out: type of Y.
template <typename T, typename Out>
void linear_token(const Linear24& layer, std::int64_t m, Out* y) {
  const std::int64_t channels = layer.x.columns;
  const std::int64_t rank = layer.down.rows;
  const T* const x = row_of<T>(layer.x, m);
  const float scale = layer.norm ? token_scale(x, channels) : 1.0f;
  const Kept kept = keep(x, channels);

  std::vector<T> low(static_cast<std::size_t>(rank));  // H / s, rounded
  for (std::int64_t r = 0; r < rank; ++r) {
    const float h = dot(x, row_of<T>(layer.down, r), channels);
    low[static_cast<std::size_t>(r)] = from_float<T>(h / scale);
  }
  for (std::int64_t n = 0; n < layer.weight.rows; ++n) {
    float sum = dot(kept, row_of<T>(layer.weight, n));
    if (rank != 0) sum += dot(low.data(), row_of<T>(layer.up, n), rank);
    y[n] = from_float<Out>(std::fma(scale, sum, layer.bias != nullptr ? layer.bias[n] : 0.0f));
  }
}

}  // namespace

void linear24(const Linear24& layer, MatrixView y) {
  check_layer(layer, y);
  with_element_type(layer.x.dtype, [&](auto element) {
    with_element_type(y.dtype, [&](auto out) {
      using T = decltype(element);
      using Out = decltype(out);
      for (std::int64_t m = 0; m < y.rows; ++m) linear_token<T>(layer, m, row_of<Out>(y, m));
    });
  });
}

}  // namespace rtlynx
