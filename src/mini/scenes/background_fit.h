// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>

#include "base/image.h"
#include "mini/scenes/scene.h"

namespace rtlynx {

/// A background's colour as a plane over the picture, fitted to the pixels that no item touches.
struct BackgroundFit {
  struct Plane {
    float mean = 0.0f;     // at the picture's centre
    float slope_x = 0.0f;  // per pixel
    float slope_y = 0.0f;

    float at(float x, float y) const {
      return mean + slope_x * (x - 0.5f * (kSceneSide - 1)) +
             slope_y * (y - 0.5f * (kSceneSide - 1));
    }
  };

  std::array<Plane, 3> channels;
  float noise = 0.0f;  // mean squared residual of one value
  Background nearest = Background::black;
};

/// Least squares; pixels far from the fit, where a model painted into the margin, are left out.
BackgroundFit fit_background(const Image& image);

}  // namespace rtlynx
