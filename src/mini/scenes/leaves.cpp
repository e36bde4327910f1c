// SPDX-License-Identifier: Apache-2.0
#include "mini/scenes/leaves.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <vector>

#include "base/rng.h"
#include "mini/scenes/scene.h"

namespace rtlynx {
namespace {

// Lengths are integers in 1/64 of a pixel of the 64-pixel scene, angles in 1/65536 of a turn.
constexpr int kUnit = 64;
constexpr int kScene = kSceneSide * kUnit;
constexpr int kTurn = 65536;
constexpr int kOneBits = 14;  // of a sine

using Channels = std::array<int, 3>;

/// 2^14 sin, within 0.2 %: Bhaskara's 16 t (1 - t) / (5 - 4 t (1 - t)) in the half turn t.
constexpr int sine(int angle) {
  constexpr std::int64_t kHalf = kTurn / 2;
  const std::int64_t within = angle & (kTurn - 1);
  const std::int64_t t = within % kHalf;
  const std::int64_t product = t * (kHalf - t);
  const auto value =
      static_cast<int>((product << (4 + kOneBits)) / (5 * kHalf * kHalf - 4 * product));
  return within < kHalf ? value : -value;
}

constexpr int cosine(int angle) { return sine(angle + kTurn / 4); }

/// The middles of a picture's pixels.
class PixelGrid {
 public:
  explicit PixelGrid(int side) : side_(side) {}

  int side() const { return side_; }
  int position(int pixel) const { return (2 * pixel + 1) * (kScene / 2) / side_; }
  int first(int unit) const { return std::clamp(unit * side_ / kScene - 1, 0, side_); }
  int end(int unit) const { return std::clamp(unit * side_ / kScene + 2, 0, side_); }

 private:
  int side_;
};

/// One octave of noise: a lattice of values, interpolated between them.
class Octave {
 public:
  Octave(Rng& rng, int cell_pixels)
      : cell_(cell_pixels * kUnit), shift_x_(rng.below(cell_)), shift_y_(rng.below(cell_)) {
    // Two more than the cells of a side: the shift, and the far edge of the last cell.
    columns_ = kScene / cell_ + 2;
    lattice_.resize(static_cast<std::size_t>(columns_ * columns_));
    for (Channels& value : lattice_)
      for (int& channel : value) channel = rng.between(-kAmplitude, kAmplitude);
  }

  void add(int x, int y, Channels& sum) const {
    const int column = (x + shift_x_) / cell_, right = (x + shift_x_) % cell_;
    const int row = (y + shift_y_) / cell_, down = (y + shift_y_) % cell_;
    const Channels* above = lattice_.data() + row * columns_ + column;
    const Channels* below = above + columns_;
    for (std::size_t c = 0; c < sum.size(); ++c) {
      const int top = above[0][c] * (cell_ - right) + above[1][c] * right;
      const int bottom = below[0][c] * (cell_ - right) + below[1][c] * right;
      sum[c] += (top * (cell_ - down) + bottom * down) / (cell_ * cell_);
    }
  }

 private:
  static constexpr int kAmplitude = 40;

  int cell_;
  int shift_x_;
  int shift_y_;
  int columns_ = 0;
  std::vector<Channels> lattice_;
};

/// Equal power in every octave, which in two dimensions is an amplitude of 1/f: [side, side].
std::vector<Channels> draw_noise(Rng& rng, const PixelGrid& grid) {
  std::vector<Octave> octaves;
  for (int cell = kSceneSide / 2; cell >= 1; cell /= 2) octaves.emplace_back(rng, cell);
  std::vector<Channels> noise;
  noise.reserve(static_cast<std::size_t>(grid.side() * grid.side()));
  for (int y = 0; y < grid.side(); ++y)
    for (int x = 0; x < grid.side(); ++x) {
      Channels& sum = noise.emplace_back(Channels{});
      for (const Octave& octave : octaves) octave.add(grid.position(x), grid.position(y), sum);
    }
  return noise;
}

std::uint8_t as_byte(int value) { return static_cast<std::uint8_t>(std::clamp(value, 0, 255)); }

enum class Outline : std::uint8_t { ellipse, rectangle, triangle };
constexpr int kOutlines = 3;

/// One leaf: an outline about a centre, turned, and what it is painted with.
class Leaf {
 public:
  explicit Leaf(Rng& rng)
      : outline_(static_cast<Outline>(rng.below(kOutlines))),
        x_(rng.below(kScene)),
        y_(rng.below(kScene)),
        half_width_(draw_radius(rng)),
        half_height_(half_width_ * rng.between(4, 10) / 10) {
    const int turned = rng.below(kTurn);
    cosine_ = cosine(turned);
    sine_ = sine(turned);
    for (int& channel : color_) channel = rng.below(256);
    // 0.05 to 0.45 periods a pixel, in any direction.
    const int frequency = rng.between(kTurn / 20, kTurn * 9 / 20);
    const int direction = rng.below(kTurn);
    wave_x_ = frequency * (cosine(direction) >> 2) >> (kOneBits - 2);
    wave_y_ = frequency * (sine(direction) >> 2) >> (kOneBits - 2);
    phase_ = rng.below(kTurn);
    for (int& channel : contrast_) channel = rng.between(-kContrast, kContrast);
  }

  void draw(const PixelGrid& grid, const std::vector<Channels>& noise,
            std::span<std::uint8_t> rgb) const {
    const int reach = half_width_ + half_height_;  // of every outline, however it is turned
    for (int row = grid.first(y_ - reach); row < grid.end(y_ + reach); ++row)
      for (int column = grid.first(x_ - reach); column < grid.end(x_ + reach); ++column) {
        const int x = grid.position(column), y = grid.position(row);
        if (!covers(x - x_, y - y_)) continue;
        const auto pixel = static_cast<std::size_t>(row * grid.side() + column);
        const int wave = sine((x * wave_x_ + y * wave_y_) / kUnit + phase_);
        for (std::size_t c = 0; c < 3; ++c)
          rgb[3 * pixel + c] = as_byte(color_[c] + ((contrast_[c] * wave) >> kOneBits) +
                                       noise[pixel][c] / kNoiseShare);
      }
  }

 private:
  static constexpr int kContrast = 48;   // of 255
  static constexpr int kNoiseShare = 3;  // one part in so many

  /// 3 to 25 pixels, mostly small: 3 + 22 (u^2 + u^3) / 2.
  static int draw_radius(Rng& rng) {
    constexpr std::int64_t kOne = 1024;
    const std::int64_t u = rng.below(kOne);
    return static_cast<int>(3 * kUnit + 11 * kUnit * (u * u * (kOne + u)) / (kOne * kOne * kOne));
  }

  bool covers(int dx, int dy) const {
    const std::int64_t u = (dx * cosine_ + dy * sine_) >> kOneBits;
    const std::int64_t v = (dy * cosine_ - dx * sine_) >> kOneBits;
    const std::int64_t a = half_width_, b = half_height_;
    switch (outline_) {
      case Outline::ellipse:
        return u * u * b * b + v * v * a * a <= a * a * b * b;
      case Outline::rectangle:
        return std::abs(u) <= a && std::abs(v) <= b;
      case Outline::triangle:  // its tip at v = -b
        return v <= b && 2 * b * std::abs(u) <= a * (v + b);
    }
    return false;
  }

  Outline outline_;
  int x_;
  int y_;
  int half_width_;
  int half_height_;
  int cosine_ = 0;
  int sine_ = 0;
  Channels color_{};
  int wave_x_ = 0;  // angle a pixel
  int wave_y_ = 0;
  int phase_ = 0;
  Channels contrast_{};
};

}  // namespace

void draw_leaves(std::uint64_t seed, int side, std::span<std::uint8_t> rgb) {
  Rng rng(seed);
  const PixelGrid grid(side);
  const std::vector<Channels> noise = draw_noise(rng, grid);
  for (std::size_t i = 0; i < rgb.size(); ++i) rgb[i] = as_byte(rgb[i] + noise[i / 3][i % 3]);
  for (int i = 0; i < kLeaves; ++i) Leaf(rng).draw(grid, noise, rgb);
}

}  // namespace rtlynx
