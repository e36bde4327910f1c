// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/libtorch.h"
#include "compensate/moments.h"
#include "layers/compensation24.h"
#include "models/shared_input.h"

namespace rtlynx {

/// Adds what layers read to the sums of a pass.
class InputCollector {
 public:
  using Transforms = std::map<std::string, InputTransform>;  // by input group

  /// Takes at most `rows` tokens, at random, of every input. Without `transforms` inputs alone are
  /// summed; with them what is selected of them, multiplied by the token's norm if `norm`. `like`
  /// says how layers hold their tensors.
  InputCollector(const std::vector<SharedInput>& groups, const Transforms* transforms, bool norm,
                 std::int64_t rows, const torch::TensorOptions& like);

  bool wants(const std::string& layer) const { return sources_.contains(layer); }

  /// The tokens that are taken of a batch depend on its index alone, not on the other inputs.
  void begin_batch(std::int64_t index);

  void add(const std::string& layer, const torch::Tensor& x, GroupMoments& moments) const;

 private:
  struct Source {
    std::string group;
    bool selects = false;
    InputTransform transform;
    at::Generator generator;
  };

  torch::Tensor some_rows(const torch::Tensor& x, const at::Generator& generator) const;

  std::map<std::string, Source> sources_;  // by the layer that is observed
  bool norm_;
  std::int64_t rows_;
};

}  // namespace rtlynx
