// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/libtorch.h"
#include "models/layer_group.h"
#include "step_benchmark/results.h"

/// What the benchmark needs of a model family. A family is one file (flux_step.h) and one line of
/// the table in family.cpp.
namespace rtlynx::step_benchmark {

/// A full-size step of a family's model with random weights and inputs.
class FamilyStep {
 public:
  virtual ~FamilyStep() = default;

  /// Of one picture.
  virtual StreamTokens tokens() const = 0;
  virtual const std::vector<LayerGroup>& groups() const = 0;
  virtual torch::nn::Module& model() = 0;

  /// The fused pass with the layers as they are set now. It owns what it reads, so that it can be
  /// captured.
  virtual std::function<torch::Tensor()> fused_pass() = 0;

  /// With the layers as they are set now.
  virtual Distances distances() = 0;

  /// The blocks that distances() runs: fewer than the model has where fp32 needs too much memory.
  virtual CheckedBlocks checked_blocks() const = 0;
};

/// What the step draws.
struct StepShape {
  std::int64_t side = 0;  // pixels
  std::int64_t batch = 1;
};

struct StepFamily {
  std::string name;
  std::int64_t side;  // of the pictures that the model was trained for
  std::unique_ptr<FamilyStep> (*make)(const StepShape&, const torch::TensorOptions&);
};

const std::vector<StepFamily>& step_families();

/// Throws UsageError for a name that is none.
const StepFamily& step_family_named(const std::string& name);

}  // namespace rtlynx::step_benchmark
