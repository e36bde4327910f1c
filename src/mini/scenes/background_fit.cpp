// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/background_fit.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "mini/scenes/palette.h"

namespace rtlynx {
namespace {

// How far a margin pixel may lie from the last fit to take part in the next: first around the
// median colour, which knows nothing of the gradient, then closer.
constexpr float kTolerances[] = {45.0f, 30.0f, 30.0f};

bool is_margin(int x, int y) {
  constexpr int kHalf = kSceneSide / 2;
  const auto near_edge = [](int v) {
    return v % kHalf < kItemMargin || v % kHalf >= kHalf - kItemMargin;
  };
  return near_edge(x) || near_edge(y);
}

struct Sample {
  float x;
  float y;
  std::array<float, 3> value;
};

std::vector<Sample> margin_samples(const Image& image) {
  std::vector<Sample> samples;
  for (int y = 0; y < kSceneSide; ++y) {
    for (int x = 0; x < kSceneSide; ++x) {
      if (!is_margin(x, y)) continue;
      const std::uint8_t* rgb = image.pixel(x, y);
      samples.push_back(
          {static_cast<float>(x),
           static_cast<float>(y),
           {static_cast<float>(rgb[0]), static_cast<float>(rgb[1]), static_cast<float>(rgb[2])}});
    }
  }
  return samples;
}

std::array<BackgroundFit::Plane, 3> median_color(const std::vector<Sample>& samples) {
  std::array<BackgroundFit::Plane, 3> planes;
  std::vector<float> values(samples.size());
  for (std::size_t c = 0; c < 3; ++c) {
    std::transform(samples.begin(), samples.end(), values.begin(),
                   [c](const Sample& sample) { return sample.value[c]; });
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    planes[c].mean = *middle;
  }
  return planes;
}

float distance(const std::array<BackgroundFit::Plane, 3>& planes, const Sample& sample) {
  float farthest = 0.0f;
  for (std::size_t c = 0; c < 3; ++c)
    farthest = std::max(farthest, std::abs(sample.value[c] - planes[c].at(sample.x, sample.y)));
  return farthest;
}

/// The plane through one channel of the samples, by the normal equations about their centroid.
BackgroundFit::Plane fit_plane(const std::vector<const Sample*>& samples, std::size_t c) {
  double x = 0.0, y = 0.0, value = 0.0;
  for (const Sample* sample : samples) {
    x += sample->x;
    y += sample->y;
    value += sample->value[c];
  }
  const auto n = static_cast<double>(samples.size());
  x /= n;
  y /= n;
  value /= n;
  double xx = 0.0, xy = 0.0, yy = 0.0, xv = 0.0, yv = 0.0;
  for (const Sample* sample : samples) {
    const double dx = sample->x - x;
    const double dy = sample->y - y;
    const double dv = sample->value[c] - value;
    xx += dx * dx;
    xy += dx * dy;
    yy += dy * dy;
    xv += dx * dv;
    yv += dy * dv;
  }
  const double determinant = xx * yy - xy * xy;
  BackgroundFit::Plane plane;
  plane.mean = static_cast<float>(value);
  if (determinant < 1.0) return plane;
  plane.slope_x = static_cast<float>((xv * yy - yv * xy) / determinant);
  plane.slope_y = static_cast<float>((yv * xx - xv * xy) / determinant);
  // From the centroid of the samples to the centre of the picture.
  const float at_centroid = plane.at(static_cast<float>(x), static_cast<float>(y));
  plane.mean += plane.mean - at_centroid;
  return plane;
}

float mean_square(const std::array<BackgroundFit::Plane, 3>& planes,
                  const std::vector<const Sample*>& samples) {
  double sum = 0.0;
  for (const Sample* s : samples)
    for (std::size_t c = 0; c < 3; ++c)
      sum += std::pow(s->value[c] - planes[c].at(s->x, s->y), 2.0f);
  return static_cast<float>(sum / (3.0 * static_cast<double>(samples.size())));
}

Background nearest_background(const std::array<BackgroundFit::Plane, 3>& planes) {
  constexpr float kCentre = 0.5f * (kSceneSide - 1);
  constexpr int kGlowStep = 51;
  Background nearest = Background::black;
  float least = std::numeric_limits<float>::max();
  for (int background = 0; background < kBackgrounds; ++background) {
    for (int glow = 0; glow <= 255; glow += kGlowStep) {
      const auto candidate = static_cast<Background>(background);
      float error = 0.0f;
      for (int y = 0; y < kSceneSide; y += kSceneSide / 8) {
        const Rgb value = background_at(candidate, glow, 2 * y + 1, 2 * kSceneSide);
        for (std::size_t c = 0; c < 3; ++c) {
          const float difference =
              planes[c].at(kCentre, static_cast<float>(y)) - static_cast<float>(value[c]);
          error += difference * difference;
        }
      }
      if (error < least) {
        least = error;
        nearest = candidate;
      }
    }
  }
  return nearest;
}

}  // namespace

BackgroundFit fit_background(const Image& image) {
  const std::vector<Sample> samples = margin_samples(image);
  BackgroundFit fit;
  fit.channels = median_color(samples);
  std::vector<const Sample*> kept;
  for (const float tolerance : kTolerances) {
    kept.clear();
    for (const Sample& sample : samples)
      if (distance(fit.channels, sample) <= tolerance) kept.push_back(&sample);
    // Fewer than a third near one colour is no background to fit; the median will do.
    if (kept.size() < samples.size() / 3) break;
    for (std::size_t c = 0; c < 3; ++c) fit.channels[c] = fit_plane(kept, c);
  }
  if (!kept.empty()) fit.noise = mean_square(fit.channels, kept);
  fit.nearest = nearest_background(fit.channels);
  return fit;
}

}  // namespace rtlynx
