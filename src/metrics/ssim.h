// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/image.h"

namespace rtlynx {

/// Structural similarity as in Wang et al. 2004: an 11x11 Gaussian window of sigma 1.5, K1 = 0.01,
/// K2 = 0.03, L = 255, averaged over the three channels. Only windows that lie wholly inside the
/// picture count, so there is no padding; pictures must have one size of at least 11x11.
double ssim(const Image& a, const Image& b);

}  // namespace rtlynx
