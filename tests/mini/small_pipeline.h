// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mini/lynx_mini.h"
#include "models/recipe.h"

namespace rtlynx::test {

/// lynx-mini at its smallest, with a final projection that is not zero, so that prompts matter.
inline Pipeline small_pipeline() {
  Pipeline pipeline = make_lynx_mini({.heads = 1, .double_blocks = 1, .single_blocks = 1}, 3);
  const torch::NoGradGuard no_grad;
  for (auto& item : named_linears(*pipeline.transformer)) item.linear->weight.normal_(0, 0.1);
  pipeline.transformer->eval();
  return pipeline;
}

}  // namespace rtlynx::test
