// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rtlynx/gpu/pack24.h"

namespace rtlynx::benchmark {

/// A linear layer, Y [M, N] = X [M, K] W^T.
struct Shape {
  std::string name;
  std::string model;  // whose forward pass `count` refers to; empty: none
  std::int64_t tokens = 0;
  std::int64_t outputs = 0;
  std::int64_t channels = 0;
  int count = 1;         // layers of this shape in one forward pass
  bool in_mean = false;  // one of the shapes of the set `bench`

  friend bool operator==(const Shape&, const Shape&) = default;
};

/// The names shapes_of() takes.
const std::vector<std::string>& shape_set_names();

/// The shapes of a set; those of `bench` are the ones the summary's means are taken over.
std::vector<Shape> shapes_of(std::string_view set);

/// M, N and K of "M,N,K"; nothing unless `text` is three whole numbers of at least 1.
std::optional<std::array<std::int64_t, 3>> parse_sizes(std::string_view text);

/// "M,N,K". Throws UsageError unless M is positive, N a multiple of 8 and K of 16, none above 2^20.
Shape parse_shape(const std::string& text);

/// What computes this layer's input in its model: layer norm before the projections of a block,
/// GELU or SwiGLU before the one that leads out of an MLP.
gpu::Producer producer_of(const Shape& shape);

const char* name_of(gpu::Producer producer);

}  // namespace rtlynx::benchmark
