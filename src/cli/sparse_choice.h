// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "base/libtorch.h"
#include "models/gain.h"
#include "models/layer_group.h"

namespace rtlynx::cli {

inline constexpr const char* kForceHelp =
    "On a GPU in bf16: sparse also where dense is faster, or was not measured on this GPU";

/// Whether a group of layers runs sparse where a method asks for it. Empty: every group does.
using SparseChoice = std::function<bool(const LayerGroup& group, const SparseForm& form)>;

/// On a GPU in bf16 the groups that gain at so many tokens, all images of a batch together; every
/// group on a CPU and in fp32, where pictures show a method and nothing is faster.
SparseChoice choose_by_gain(const torch::TensorOptions& options, const StreamTokens& tokens);

/// Of a method's layers with 2:4 inputs: those that are so now, and all that it asks for.
struct SparseLayers {
  int sparse = 0;
  int wanted = 0;
};

/// A sentence for the user where layers stay dense because they would not gain.
void say_what_stays_dense(const char* command, const SparseLayers& layers,
                          const StreamTokens& tokens);

}  // namespace rtlynx::cli
