// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/libtorch.h"

namespace rtlynx {

/// Throws Error in the name of `op` unless the tensor is there and has this shape.
void check_shape(const char* op, const char* name, const torch::Tensor& tensor,
                 torch::IntArrayRef wanted);

}  // namespace rtlynx
