// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rtlynx/pack24.h"

namespace rtlynx::benchmark {

/// Linears that read one input: Y_i [M, N_i] = X [M, K] W_i^T, one pack and one product.
struct Shape {
  std::string name;
  std::string model;  // whose forward pass `count` refers to; empty: none
  std::int64_t tokens = 0;
  std::vector<std::int64_t> outputs;  // of each weight
  std::int64_t channels = 0;
  Producer producer = Producer::none;  // of the input
  int count = 1;                       // how often in one forward pass
  bool in_mean = false;                // the summary's means are taken over these
  bool in_pass = false;  // what the paper's recipe runs 2:4-sparse: counts in the sums

  std::int64_t all_outputs() const;  // N of all weights together

  friend bool operator==(const Shape&, const Shape&) = default;
};

/// The names shapes_of() takes.
const std::vector<std::string>& shape_set_names();

/// The shapes of a set. Those of a model are its groups, stacked as they run, and behind each group
/// of several weights a row for each size of them alone: one product a weight.
std::vector<Shape> shapes_of(std::string_view set);

/// M, N and K of "M,N,K"; nothing unless `text` is three whole numbers of at least 1.
std::optional<std::array<std::int64_t, 3>> parse_sizes(std::string_view text);

/// "M,N,K", or "M,N+N+N,K" for weights that read one input. Throws UsageError unless M is positive,
/// one to four N multiples of 8 and K of 16, none above 2^20.
Shape parse_shape(const std::string& text);

const char* name_of(Producer producer);

}  // namespace rtlynx::benchmark
