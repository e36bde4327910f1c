// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/libtorch.h"

namespace rtlynx::test {

/// The 2 largest of every 4 channels by sorting, in torch operations that pass gradients; random
/// inputs have no ties.
inline torch::Tensor keep_two_of_four(const torch::Tensor& x) {
  const torch::Tensor groups = x.unflatten(-1, {-1, 4});
  const torch::Tensor top = std::get<1>(groups.detach().abs().topk(2, /*dim=*/-1));
  const torch::Tensor mask = torch::zeros_like(groups.detach()).scatter(-1, top, 1.0);
  return (groups * mask).flatten(-2);
}

}  // namespace rtlynx::test
