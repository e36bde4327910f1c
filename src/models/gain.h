// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "models/layer_group.h"
#include "rtlynx/gpu/device.h"
#include "rtlynx/operand24.h"

namespace rtlynx {

/// What runs beside the 2:4 product of an input, and in which type, as far as its time depends on
/// it.
struct SparseForm {
  int rank = 0;  ///< the largest of the group's layers
  OperandWidth width = OperandWidth::k16;
};

/// Whether a group of layers is faster with a 2:4 input on this GPU, pack and product, than with a
/// dense product of as many tokens: by measured times, so never on a GPU that was not measured.
bool gains(const LayerGroup& group, std::int64_t tokens, const SparseForm& form,
           const gpu::DeviceTraits& device);

}  // namespace rtlynx
