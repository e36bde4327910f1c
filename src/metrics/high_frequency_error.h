// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/image.h"

namespace rtlynx {

/// How much of a picture's fine detail is wrong: ||D(image) - D(reference)|| / ||D(reference)||,
/// with D the Laplacian 4 p(x, y) - p(x-1, y) - p(x+1, y) - p(x, y-1) - p(x, y+1) of every channel
/// at every pixel with four neighbours. 0 for equal detail, about 1 where it is missing, infinity
/// where only the reference has none. Throws Error unless both have one size of at least 3x3.
double high_frequency_error(const Image& reference, const Image& image);

}  // namespace rtlynx
