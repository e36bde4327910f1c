// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/image.h"

namespace rtlynx {

/// Peak signal-to-noise ratio in dB, over all channels together, with a peak of 255; infinity for
/// equal pictures. Throws Error if the sizes differ or there are no pixels.
double psnr(const Image& a, const Image& b);

}  // namespace rtlynx
