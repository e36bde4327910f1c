// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/device/host_device.h"

namespace rtlynx {

/// What a 1 of a row's codes stands for if its largest magnitude is to become 448, the largest of
/// e4m3; 1 for a row of zeros. Not below the smallest normal number, whose reciprocal is finite.
RTLYNX_HOST_DEVICE constexpr float code_unit(float largest) {
  constexpr float kLargestCode = 448.0f, kSmallestNormal = 0x1p-126f;
  if (largest == 0.0f) return 1.0f;
  const float unit = largest / kLargestCode;
  return unit < kSmallestNormal ? kSmallestNormal : unit;
}

}  // namespace rtlynx
