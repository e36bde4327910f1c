// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "models/layer_group.h"
#include "step_benchmark/variants.h"

namespace rtlynx::step_benchmark {

/// How far the fused path and the plain one lie from the plain one in fp32, relative to it.
struct Distances {
  double fused = 0.0;
  double plain = 0.0;
};

/// Blocks that were compared with fp32, of all that the model has.
struct CheckedBlocks {
  std::int64_t run = 0;
  std::int64_t all = 0;
};

/// How one variant ran.
struct VariantResult {
  StepVariant variant;
  std::vector<std::string> sparse_layers;
  std::optional<Distances> distances;  // nothing: not checked
  double activations_gib = 0.0;        // at most, beside the weights
  std::vector<double> ms;              // a step in each round
  std::map<std::string, double> ms_by_class;

  double median_ms() const;
};

struct StepResult {
  std::string family;
  std::string gpu;
  std::string date;       // UTC, ISO 8601
  StreamTokens tokens;    // of one picture
  std::int64_t side = 0;  // pixels
  std::int64_t batch = 1;
  CheckedBlocks checked;
  double weights_gib = 0.0;
  std::vector<VariantResult> variants;
};

}  // namespace rtlynx::step_benchmark
