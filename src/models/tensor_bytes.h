// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/libtorch.h"
#include "io/safetensors.h"

namespace rtlynx {

/// The torch type that holds a file's type; nothing for those that torch lacks.
std::optional<torch::ScalarType> scalar_type_of(TensorDtype dtype);

/// A CPU tensor with a copy of the entry's bytes. `where` names file and tensor in messages; throws
/// Error for a type that torch lacks.
torch::Tensor copy_to_tensor(const TensorEntry& entry, const std::string& where);

/// Tensors on the CPU, contiguous, with the views of their bytes that the safetensors writer takes.
class TensorBytes {
 public:
  explicit TensorBytes(const std::vector<std::pair<std::string, torch::Tensor>>& tensors);

  const std::vector<NamedTensor>& entries() const { return entries_; }

 private:
  std::vector<torch::Tensor> kept_;
  std::vector<NamedTensor> entries_;
};

}  // namespace rtlynx
